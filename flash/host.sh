# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# A running board, over ssh.

on_board() { "${ssh[@]}" "$@"; }

check_host_machine() {
  doing "look at $host"
  ssh=(ssh -o ControlMaster=auto -o ControlPath="$work/ssh" -o ControlPersist=60)
  local found
  found=$(on_board -- "$host" 'uname -m && id -u && { systemctl --version || :; }' </dev/null) ||
    refuse "$host cannot be reached by ssh" "a login" "" "try: ssh $host"
  local kernel number
  { read -r kernel && read -r number && read -r _ systemd_version _; } <<<"$found" ||
    refuse "$host does not run systemd" "a system that starts services by it" "" ""
  case $machine${cores:-}-$kernel in
    183-aarch64 | 40v6-armv6* | 40v?-armv[78]* | 40v?-aarch64) ;;
    *) refuse "$host is not a $board" "$word" "$kernel" "give the board that it is" ;;
  esac
  if [ "$number" = 0 ]; then sudo=''; else sudo='sudo '; fi
}

install_on_host() {
  plan_edge
  step "put onto $host"
  show_plan
  step "restart it there, wait until it is ready, roll back if it is not"
  [ -z "$dry" ] || return 0
  cp "$here/flash/board.sh" "$work/install"
  local folder
  folder=$(on_board -- "$host" 'umask 077; mktemp -d /tmp/sanedge.XXXXXXXX' </dev/null) || folder=''
  [[ $folder =~ ^/tmp/sanedge\.[A-Za-z0-9]+$ ]] ||
    refuse "$host did not make a folder" "/tmp/sanedge.…" "${folder:-nothing}" "ssh $host must print nothing by itself, and /tmp have room"
  there=$folder # not before: it is removed there
  watched packing 0 - tar -C "$work" -cf "$work/payload.tar" root plan install
  local bytes status=0
  bytes=$(size_of "$work/payload.tar")
  watched sending "$bytes" 0 "${ssh[@]}" -- "$host" "tar -xf - -C $there" <"$work/payload.tar"
  local terminal=()
  [ -z "$sudo" ] || [ ! -t 0 ] || terminal=(-t)
  # What sudo did not let begin is still the login's own.
  on_board "${terminal[@]}" -- "$host" "${sudo}sh $there/install; status=\$?; rm -rf $there; exit \$status" || status=$?
  [ "$status" -ne 0 ] || there=''
  [ "$status" -eq 0 ] || refuse "the edge was not installed on $host" "a unit that becomes ready" "see above" \
    "mend what the journal names, and do this again"
}
