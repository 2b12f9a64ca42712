#!/bin/sh
# shellcheck disable=SC2010,SC2015,SC2030,SC2031,SC2034,SC2046,SC2086  # `this && that || go on` is meant so; one word for each unit
#
# The half of `flash.sh --host` that runs on the board, as root, by `sh install`; refuse.sh, cmdline.sh and ports.sh are prepended to it.
#
# Every new file is staged beside its place and synced before the first is replaced, and every old one gets a second name there, so that
# neither the change nor its rollback needs space. A folder, the journal, records the progress:
#
#   plan       .NAME.sanedge-new may exist; nothing is replaced
#   switching  renames put the new files in place, and the edge is restarted; an interruption is rolled back
#   committed  the new edge is ready; only the second names remain to be removed
#
# `sh install undo` rolls back an interruption: at the end of the unit that this runs in, at the next boot (sanedge-recover.service), or in
# the next installation.
set -eu
export LC_ALL=C
trap '' HUP INT PIPE
umask 077
here=$(dirname "$0")
root=${SANEDGE_ROOT:-}
journal=$root/var/lib/sanedge-install
refusals=$here/refusals
settings=$root/etc/systemd/system
recover=$settings/sanedge-recover.service
slack_kib=1024 # for the journal, directories and what else is written meanwhile
was_healthy='' switched='' committed=''

say() { printf '      %s\n' "$*" || :; }
indented() { sed 's/^/        /' || :; }
exists() { [ -e "$1" ] || [ -L "$1" ]; }
new_of() { printf '%s\n' "$root${1%/*}/.${1##*/}.sanedge-new"; }
old_of() { printf '%s\n' "$root${1%/*}/.${1##*/}.sanedge-old"; }
version_of_systemd() { systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'; }

# --- the plan: kind and place of each file and link, not the folders that they are in -------------------------------------

paths() {
  while read -r kind a b c path; do
    case $kind in
      file) echo "$path" ;;
      link) echo "$b" ;;
      gone) echo "$a" ;;
    esac
  done <"$here/plan"
}
units() { paths | sed -n 's|^/usr/lib/systemd/system/\(sanedge[a-z-]*\.[a-z]*\)$|\1|p'; }
sockets() { sed -n 's/^link .*\/\(sanedge-[a-z]*\.socket\)$/\1/p' "$here/plan"; }
all_sockets='sanedge-https.socket sanedge-http.socket sanedge-admin.socket'
all_units="sanedge.service $all_sockets"

# as_wanted MODE OWNER GROUP FILE PATH: whether the file at PATH needs no change
as_wanted() {
  [ -f "$root$5" ] && [ ! -L "$root$5" ] && cmp -s "$4" "$root$5" &&
    [ "$(stat -c '0%a %U %G' "$root$5")" = "$1 $2 $3" ]
}

# --- checks before anything is changed --------------------------------------------------------------------------------------

check_masks() {
  for unit in $(units); do
    for folder in "$settings" "$root/run/systemd/system"; do
      [ "$(readlink "$folder/$unit" || :)" != /dev/null ] || refuse board-masked "a link to /dev/null in ${folder#"$root"}" "$unit"
    done
  done
}

# The folder that a path is in or will be in.
folder_of() {
  folder=$(dirname "$root$1")
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  echo "$folder"
}
check_room() {
  while read -r kind a b c path; do
    [ "$kind" = file ] || continue
    as_wanted "$a" "$b" "$c" "$here/root$path" "$path" ||
      echo "$(($(wc -c <"$here/root$path") / 1024 + 4)) $(df -Pk "$(folder_of "$path")" | awk 'NR == 2 { print $4, $6 }')"
  done <"$here/plan" | awk -v slack="$slack_kib" '
    { need[$3] += $1; free[$3] = $2 }
    END { for (place in need) if (free[place] < need[place] + slack) print place, need[place] + slack, free[place] }
  ' >"$here/room"
  if read -r place need free <"$here/room"; then refuse board-room "$free KiB" "$place" "$need"; fi
}

check_ports() {
  while read -r name address; do
    port=${address##*:} ip=${address%:*} ip=${ip#[} ip=${ip%]}
    found=$(port_holder "$port" "$ip")
    case $found in
      '' | *' sanedge' | *' for sanedge-'*.socket) continue ;;
    esac
    refuse board-port "process $found" "sanedge-$name.socket" "$port" "${found#* }"
  done <"$here/listen"
}

check_program() {
  program=$(new_of /usr/bin/sanedge) bundle=$(new_of /etc/sanedge/sanedge.bundle)
  exists "$program" || program=$root/usr/bin/sanedge
  exists "$bundle" || bundle=$root/etc/sanedge/sanedge.bundle
  said=$("$program" --version 2>&1) || refuse board-program "$said"
  said=$("$program" show "$bundle" 2>&1 >/dev/null) || refuse board-bundle "$said"
  # As many digits of the digest as `status` shows.
  wanted=$("$program" show --json "$bundle" | sed -n 's/^  "digest": "\(.\{16\}\).*/\1/p')
}

# --- staging -----------------------------------------------------------------------------------------------------------------

stage() {
  remove_second_names # of an installation that left no journal
  while read -r kind a b c path; do
    case $kind in
      dir) mkdir -p "$root$path" && chown "$b:$c" "$root$path" && chmod "$a" "$root$path" || refuse board-stage "" "$path" ;;
      file)
        mkdir -p "$root${path%/*}" || refuse board-stage "" "$path"
        as_wanted "$a" "$b" "$c" "$here/root$path" "$path" || stage_file "$a" "$b:$c" "$path" || refuse board-stage "" "$path"
        ;;
      link)
        mkdir -p "$root${b%/*}" || refuse board-stage "" "$b"
        [ "$(readlink "$root$b" || :)" = "$a" ] || ln -s "$a" "$(new_of "$b")" || refuse board-stage "" "$b"
        ;;
    esac
  done <"$here/plan"
}
stage_file() {
  new=$(new_of "$3")
  cp "$here/root$3" "$new" && chown "$2" "$new" && chmod "$1" "$new" && sync "$new" && cmp -s "$here/root$3" "$new"
}

# What the journal needs for a rollback: this script, the plan, and which places had a file before.
keep() {
  for path in $(paths); do
    exists "$root$path" || continue
    echo "$path"
    if replaced "$path"; then
      # A hard link needs no space. If the file system has no links, a copy is made.
      ln "$root$path" "$(old_of "$path")" 2>/dev/null ||
        { cp -a "$root$path" "$(old_of "$path")" && sync "$(old_of "$path")"; } || refuse board-stage "" "$path"
    fi
  done >"$journal/had"
  if systemctl is-active --quiet sanedge.service; then : >"$journal/was-active"; fi
  sync "$journal"/*
}
# Whether the file or link at a path is replaced or removed; all others stay as they are.
replaced() { exists "$(new_of "$1")" || grep -qx "gone $1" "$here/plan"; }

write_recover() {
  mkdir -p "$settings/sysinit.target.wants"
  cat >"$recover" <<UNIT
# Written by flash.sh for an installation, and removed by it.
[Unit]
Description=sanedge, undo of an installation that was interrupted
DefaultDependencies=no
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/sanedge-install /usr/bin /etc
After=local-fs.target
Before=sysinit.target shutdown.target

[Service]
Type=oneshot
ExecStart=/bin/sh /var/lib/sanedge-install/install undo boot
UNIT
  chmod 0644 "$recover"
  ln -sf ../sanedge-recover.service "$settings/sysinit.target.wants/sanedge-recover.service"
  sync "$recover"
}

# --- the switch and its rollback ---------------------------------------------------------------------------------------------

switch() {
  for path in $(paths); do
    new=$(new_of "$path")
    if exists "$new"; then mv -f "$new" "$root$path"
    elif replaced "$path"; then rm -f "$root$path"; fi
  done
}

same_inode() { [ "$(stat -c %d:%i "$1" 2>/dev/null)" = "$(stat -c %d:%i "$2" 2>/dev/null)" ]; }

# Restores the old files. Each step may be repeated.
put_old() {
  incomplete=''
  [ -f "$here/had" ] || return 0
  for path in $(paths); do
    old=$(old_of "$path")
    if ! grep -qx "$path" "$here/had"; then rm -f "$root$path" || incomplete="$incomplete $path"
    elif ! exists "$old"; then continue # was not to be replaced
    elif same_inode "$old" "$root$path"; then rm -f "$old" # was not replaced yet; `mv` takes no two names of one file
    else mv -f "$old" "$root$path" || incomplete="$incomplete $path"; fi
  done
  sync
}
remove_second_names() { for path in $(paths); do rm -f "$(new_of "$path")" "$(old_of "$path")" || :; done; }
close_journal() {
  # First removes the file that requests a rollback, so that none uses an incomplete journal.
  rm -f "$journal/switching"
  sync
  rm -f "$settings/sysinit.target.wants/sanedge-recover.service" "$recover"
  rmdir "$settings/sysinit.target.wants" 2>/dev/null || :
  rm -rf "$journal"
  sync
}
# The links decide which units are started, now and at the next boot.
wanted() { [ -L "$settings/sockets.target.wants/$1" ] || [ -L "$settings/multi-user.target.wants/$1" ]; }
wanted_sockets() { for unit in $all_sockets; do if wanted "$unit"; then echo "$unit"; fi; done; }

undo() {
  set +e
  put_old
  systemctl daemon-reload
  if [ "${1:-}" = boot ]; then
    # Replaces waiting jobs for the new units, and does not wait for units that start later.
    for unit in $all_units; do
      if wanted "$unit"; then systemctl --no-block start "$unit"; else systemctl --no-block stop "$unit" 2>/dev/null; fi
    done
  elif [ -e "$here/was-active" ]; then
    start $(wanted_sockets)
  else
    systemctl stop $all_units
    systemctl reset-failed $all_units 2>/dev/null
  fi
  if [ -n "$incomplete" ]; then
    say "the rollback is not complete; put these old files back by hand, or reboot to try again:"
    for path in $incomplete; do say "  $path  was  $(old_of "$path")"; done
    return 1
  fi
  remove_second_names
  close_journal
  set -e
}

# If only the program or the bundle changed, the sockets stay open and no connection is refused.
start() {
  systemctl daemon-reload
  if [ -n "$sockets_differ" ]; then
    systemctl stop $all_units || :
    systemctl start "$@"
    systemctl start sanedge.service
  else
    systemctl restart sanedge.service
  fi
}
sockets_changed() {
  for path in $(paths | grep '\.socket'); do if replaced "$path" && { exists "$root$path" || exists "$(new_of "$path")"; }; then return 0; fi; done
  return 1
}

rollback() {
  say "not ready; its log:"
  journalctl -u sanedge.service -n 15 --no-pager -o cat | indented
  if ! undo; then return; fi
  if [ -z "$was_active" ]; then
    say "rolled back: program, units and bundle are removed; the users sanedge and sanedge-acme, /etc/sanedge and empty folders for drop-ins stay"
  elif systemctl is-active --quiet sanedge.service; then say "rolled back: the old edge serves again"
  else say "rolled back, but the old edge does not start either"; fi
}

# --- health -------------------------------------------------------------------------------------------------------------------

ready() {
  systemctl is-active --quiet sanedge.service || return 1
  found=$("$root/usr/bin/sanedge" status --json) || return 1
  case $found in *"$wanted"*) ;; *) say "the edge uses another bundle"; return 1 ;; esac
}
# The bundle was compiled elsewhere, without the certificates that this board has obtained itself.
with_stored_certificates() {
  [ -e "$root/etc/sanedge/sanedge.acme" ] || return 0
  for certificate in "$root"/var/lib/sanedge-acme/certificates/*.pem; do
    [ -e "$certificate" ] || return 0
    systemctl start sanedge-deploy.service ||
      say "the certificates of this board were not put to use; \`journalctl -u sanedge-deploy\` says why"
    return 0
  done
}
doctor() {
  "$root/usr/bin/sanedge" doctor --help >/dev/null 2>&1 || return 0
  timeout 60 "$root/usr/bin/sanedge" doctor /etc/sanedge/sanedge.bundle
}

# Raspberry Pi kernels start with the memory controller off. The message that it is enabled comes once the change is synced.
memory_limits() {
  [ -e "$root/sys/fs/cgroup/cgroup.controllers" ] || return 0
  ! grep -qw memory "$root/sys/fs/cgroup/cgroup.controllers" || return 0
  for boot in "$root/boot/firmware" "$root/boot"; do
    name=$(cmdline_file "$(cat "$here/board" 2>/dev/null)")
    # In the old place, Raspberry Pi OS 12 and later have a file that only names the new one.
    if [ -n "$name" ] && boot_file "$name" | grep -q 'DO NOT EDIT'; then name=''; fi
    [ -z "$name" ] || break
  done
  if [ -z "$name" ]; then
    say "MemoryMax= has no effect here: the kernel's memory controller is off, and there is no cmdline.txt in /boot/firmware or /boot to enable it"
    return 0
  fi
  line=$(readlink -f "$boot/$name")
  before=$(tr -d '\r' <"$line" | head -n 1)
  if memory_is_on "$before"; then
    say "MemoryMax= takes effect at the next reboot: cgroup_enable=memory is already in ${line#"$root"}"
  elif printf '%s cgroup_enable=memory\n' "$(printf '%s' "$before" | sed 's/ *$//')" >"$here/line" &&
    cp -p "$line" "$line.sanedge-new" && cat "$here/line" >"$line.sanedge-new" && sync "$line.sanedge-new" && mv -f "$line.sanedge-new" "$line" && sync &&
    cmp -s "$here/line" "$line"; then
    say "MemoryMax= takes effect at the next reboot: cgroup_enable=memory is in ${line#"$root"} now"
  else
    rm -f "$line.sanedge-new" || :
    say "MemoryMax= has no effect: ${line#"$root"} could not be written; add cgroup_enable=memory to the end of its first line"
  fi
}
boot_file() { [ -f "$boot/$1" ] && cat "$boot/$1"; }

# --- all of it -----------------------------------------------------------------------------------------------------------------

# Completes or rolls back an earlier run, by its journal.
settle() {
  payload=$(cat "$journal/payload" 2>/dev/null || :)
  case $payload in /tmp/sanedge.* | /var/tmp/sanedge.*) [ "$payload" = "$here" ] || rm -rf "$payload" ;; esac
  if [ -e "$journal/committed" ]; then (here=$journal && remove_second_names && close_journal)
  elif [ -e "$journal/switching" ]; then
    say "an interrupted installation is rolled back"
    (here=$journal sockets_differ=1 && undo "$@")
  elif [ -e "$journal/plan" ]; then (here=$journal && remove_second_names && close_journal)
  fi
}

finish() {
  status=$?
  trap - EXIT
  if [ -n "$switched" ] && [ -z "$committed" ]; then
    status=1
    (here=$journal && rollback) || :
  elif [ -z "$committed" ]; then
    remove_second_names
    close_journal
  fi
  rm -rf "$here"
  exit "$status"
}

install() {
  touch "$here/begun"
  trap 'rm -rf "$here"' EXIT
  chown -R root:root "$here" # what came belongs to the login, and a bundle that is neither root's nor ours is refused
  mkdir -p "$journal" "$settings"
  if command -v flock >/dev/null; then
    exec 9<"$settings"
    flock -n 9 || refuse board-busy
  fi
  settle
  mkdir -p "$journal"
  trap finish EXIT
  trap 'exit 143' TERM
  check_masks
  check_ports
  check_room
  cp "$here/plan" "$here/refusals" "$here/install" "$journal/"
  echo "$here" >"$journal/payload"
  sync "$journal"/*
  write_recover
  systemd-sysusers "$here/root/usr/lib/sysusers.d/sanedge.conf"
  stage
  check_program
  keep
  was_active=''
  [ ! -e "$journal/was-active" ] || was_active=1
  if [ -n "$was_active" ] && doctor >/dev/null 2>&1; then was_healthy=1; fi
  sockets_differ=1
  if [ -n "$was_active" ] && ! sockets_changed; then sockets_differ=''; fi
  sync

  touch "$journal/switching"
  sync "$journal"
  switched=1
  switch
  sync
  systemd-tmpfiles --create "$root/usr/lib/tmpfiles.d/sanedge.conf"
  start $(sockets)
  ready
  with_stored_certificates
  if ! doctor >"$here/doctor" 2>&1; then
    indented <"$here/doctor"
    if [ -n "$was_healthy" ]; then say "\`sanedge doctor\` reports a failure that it did not report before"; exit 1; fi
    say "\`sanedge doctor\` reports the failures above; the edge itself is ready"
  fi
  mv "$journal/switching" "$journal/committed"
  committed=1
  sync
  remove_second_names
  close_journal
  memory_limits
  # Without sanedge.acme they stay as they are.
  systemctl start sanedge-renew.timer sanedge-deploy.path || :
  sync
  say "ready: $("$root/usr/bin/sanedge" --version)"
}

# Runs in a separate unit: neither a broken connection nor the end of the login stops it, and its end rolls back what is not finished.
as_unit() {
  exec systemd-run --quiet --collect --wait --pipe --unit=sanedge-install --property=KillMode=mixed --property=TimeoutStopSec=180 \
    --property="ExecStopPost=-/bin/sh -c '[ ! -e $journal/install ] || exec /bin/sh $journal/install undo'" /bin/sh "$here/install" run
}

case ${1:-} in
  undo) shift; settle "$@" ;;
  run) install ;;
  *)
    # --wait and --pipe need systemd 236.
    version=$(version_of_systemd)
    if [ -d "$root/run/systemd/system" ] && [ "${version:-0}" -ge 236 ] && command -v systemd-run >/dev/null; then as_unit; fi
    install
    ;;
esac
