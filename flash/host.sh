# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# A running board, over ssh. Its login may have any shell: it gets only single commands of plain words; scripts go to `sh` on stdin or as
# files.

reboot_seconds=${SANEDGE_REBOOT_SECONDS:-600} # a Zero that checks a large card's file system first takes minutes
on_board() { "${ssh[@]}" "$@"; }

# ssh over one connection that later calls share; without sharing if the path is too long for a socket.
open_ssh() {
  ssh=(ssh -o ConnectTimeout=30)
  [ "${#work}" -gt 80 ] || ssh+=(-o ControlMaster=auto -o ControlPath="$work/ssh" -o ControlPersist=60)
}

answers() { sed -n "s/^sanedge-probe $1 //p" "$work/probe"; }
probe() { on_board -- "$host" sh <"$here/flash/probe.sh" 2>"$work/ssh.said" | tr -d '\r' >"$work/probe"; }

check_host_machine() {
  doing "check $host"
  open_ssh
  probe || refuse_ssh "$?"
  [ -n "$(answers machine)" ] || refuse host-shell "$(head -n 3 "$work/probe" "$work/ssh.said" | grep -v '^==>' | tr '\n' ' ')" "$host"
  systemd_version=$(answers systemd)
  [ -n "$systemd_version" ] || refuse host-no-systemd "" "$host"
  local kernel
  kernel=$(answers machine)
  case $machine${cores:-}-$kernel in
    183-aarch64 | 40v6-armv6* | 40v?-armv[78]* | 40v?-aarch64) ;;
    *) refuse host-machine "$kernel" "$host" "$board" "$word" ;;
  esac
  check_host_places
  case $(answers sudo) in
    needless) sudo='' ;;
    missing) refuse host-sudo "" "$host" ;;
    password) [ -t 0 ] || note "sudo on $host asks for a password, and there is no terminal to type it"; sudo='sudo ' ;;
    *) sudo='sudo ' ;;
  esac
  # A terminal there for sudo: for its password if there is a terminal here, and always if sudo requires one.
  terminal=()
  if [ "$(answers sudo)" = terminal ]; then terminal=(-tt)
  elif [ -n "$sudo" ] && [ -t 0 ]; then terminal=(-t); fi
}

refuse_ssh() {
  cat "$work/ssh.said" >&2
  case $(cat "$work/ssh.said" "$work/probe") in
    *'assword has expired'* | *'Password change required'*) refuse host-expired "" "$host" ;;
  esac
  [ "$1" -eq 255 ] || refuse host-shell "exit status $1 $(head -n 3 "$work/probe" | tr '\n' ' ')" "$host"
  case $(cat "$work/ssh.said") in
    *'IDENTIFICATION HAS CHANGED'*) refuse host-key "another key" "$host" "$(host_name)" ;;
    *'Host key verification failed'*) refuse host-unknown "no key in known_hosts" "$host" ;;
    *'Permission denied'* | *'Too many authentication failures'*) refuse host-login "" "$host" ;;
    *'Connection refused'* | *'kex_exchange_identification'*) refuse host-closed "" "$host" ;;
    *'Could not resolve'*) refuse host-name "" "$host" ;;
    *'timed out'* | *'No route to host'*) refuse host-silent "" "$host" ;;
  esac
  refuse host-unreachable "" "$host"
}
# The host's name in known_hosts: [HOST]:PORT if the port is not 22.
host_name() {
  local name=${host#ssh://}
  name=${name#*@}
  case $host in ssh://*:*) name="[${name%:*}]:${name##*:}" ;; esac
  printf '%s\n' "$name"
}

check_host_places() {
  local folder point kind mode
  while read -r folder point kind mode; do
    case $kind in
      overlay | aufs | tmpfs | ramfs) refuse host-overlay "$kind on $point" "$folder" "$host" ;;
    esac
    case $kind-$mode in
      squashfs-* | erofs-* | *-ro) refuse host-read-only "$kind on $point, mounted read-only" "$folder" "$host" "$point" ;;
    esac
  done < <(answers place)
}

install_on_host() {
  plan_edge
  step "install on $host"
  show_plan
  step "restart the edge there, wait until it is ready, roll back if it is not"
  [ -z "$reboot" ] || step "reboot the board, and check again"
  [ -z "$dry" ] || return 0
  pack_for_host
  send_to_host
  run_on_host
  [ -z "$reboot" ] || reboot_host
}

pack_for_host() {
  cat "$here"/flash/{refuse,cmdline,ports,board}.sh >"$work/install"
  cp "$refusals" "$work/refusals"
  printf '%s\n' "$board" >"$work/board"
  { listener https | sed 's/^/https /'; listener http | sed 's/^/http /'; } >"$work/listen"
  watched packing 0 - tar -C "$work" -cf "$work/payload.tar" root plan install refusals board listen
}

# Copies to the first temporary folder with enough space; the script removes the files itself, or flash.sh does.
send_to_host() {
  local bytes folder room place='' found=''
  bytes=$(size_of "$work/payload.tar")
  while read -r folder room; do
    found+="$folder: ${room:-no} KiB; "
    [ "${room:-0}" -gt $(((bytes + 1048576) / 1024)) ] || continue
    place=$folder
    break
  done < <(answers temporary)
  [ -n "$place" ] || refuse host-temporary "${found:-neither can be written}" "$host" "$(mebibytes $((bytes + 1048576)))"
  folder=$(on_board -- "$host" sh <<<"umask 077; printf 'sanedge-probe folder %s\n' \"\$(mktemp -d $place/sanedge.XXXXXXXX)\"" |
    tr -d '\r' | sed -n 's/^sanedge-probe folder //p') || folder=''
  [[ $folder =~ ^(/var)?/tmp/sanedge\.[A-Za-z0-9]+$ ]] || refuse host-folder "${folder:-nothing}" "$host"
  there=$folder # not before: it is removed there
  watched sending "$bytes" 0 "${ssh[@]}" -- "$host" "tar -xf - -C $there" <"$work/payload.tar"
}

run_on_host() {
  local status=0
  on_board "${terminal[@]}" -- "$host" "${sudo}sh $there/install" || status=$?
  case $status in
    0) there='' ;;
    255) refuse host-lost "" "$host" ;;
    *)
      [ "$(answers sudo)" != password ] || [ -t 0 ] || refuse host-sudo-password "see above" "$host"
      refuse host-failed "see above" "$host"
      ;;
  esac
}

# Whether the edge serves after the reboot: another boot, the unit active, with the installed bundle.
reboot_host() {
  local before said digest deadline attempt
  before=$(answers boot)
  digest=$(sed -n 's/^  "digest": "\(.\{16\}\).*/\1/p' "$work/show.json")
  doing "reboot $host, and check again"
  on_board "${terminal[@]}" -- "$host" "${sudo}systemctl reboot" || true # the line breaks with it
  ssh -o ControlPath="$work/ssh" -O exit -- "$host" 2>/dev/null || true
  ssh+=(-o ConnectTimeout=5)
  deadline=$((SECONDS + reboot_seconds))
  until probe && [ -n "$(answers boot)" ] && [ "$(answers boot)" != "$before" ]; do
    [ "$SECONDS" -lt "$deadline" ] || refuse host-gone "$(tail -n 1 "$work/ssh.said")" "$host" "$reboot_seconds"
    ssh -o ControlPath="$work/ssh" -O exit -- "$host" 2>/dev/null || true
    sleep 2
  done
  # Up to half a minute more: sshd may be ready before the edge.
  for ((attempt = 0; attempt < 15; attempt++)); do
    said=$(on_board "${terminal[@]}" -- "$host" "${sudo}sanedge status --json" 2>&1) || said="no answer: $said"
    [[ $said != *"$digest"* ]] || break
    sleep 2
  done
  [[ $said == *"$digest"* ]] || refuse host-dead "$(printf '%s' "$said" | tail -n 1 | cut -c 1-200)" "$host"
  detail "the edge serves after the reboot"
}
