#!/bin/sh
# shellcheck disable=SC2015,SC2046  # `this && that || go on` is meant so; one word for each unit
# What runs on the board, as root: keeps what was there, puts the new in, waits for readiness, puts the old back where
# that fails. A file is replaced by a rename; a broken line does not stop it half-way.
set -eu
trap '' HUP INT PIPE
umask 077
dir=$(dirname "$0")
: >"$dir/begun"
was_active='' was_healthy='' kept='' committed=''
finish() {
  status=$?
  trap - EXIT
  if [ -n "$kept" ] && [ -z "$committed" ]; then rollback; fi
  rm -rf "$dir"
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
root=${SANEDGE_ROOT:-}
say() { printf '      %s\n' "$*" || :; }
old=$dir/old
chown -R root:root "$dir" # what came belongs to who sent it, and a bundle that is neither root's nor ours is refused
chmod 0700 "$dir/root/usr/bin/sanedge"
"$dir/root/usr/bin/sanedge" show "$dir/root/etc/sanedge/sanedge.bundle" >/dev/null ||
  { say "the new program cannot read the new bundle here"; exit 1; }
wanted=$("$dir/root/usr/bin/sanedge" show --json "$dir/root/etc/sanedge/sanedge.bundle" | sed -n 's/^  "digest": "\(.\{16\}\).*/\1/p') # as much of it as `status` shows

# files and links, not the folders that they are in
paths() {
  while read -r kind a b c path; do
    case $kind in
      file) echo "$path" ;;
      link) echo "$b" ;;
      gone) echo "$a" ;;
    esac
  done <"$dir/plan"
}
same() {
  if [ -L "$1" ] && [ -L "$2" ]; then [ "$(readlink "$1")" = "$(readlink "$2")" ]
  elif exists "$1" && exists "$2"; then cmp -s "$1" "$2"
  else ! exists "$1" && ! exists "$2"; fi
}
exists() { [ -e "$1" ] || [ -L "$1" ]; }
keep() {
  mkdir "$old"
  for path in $(paths); do
    exists "$root$path" || continue
    mkdir -p "$old$(dirname "$path")"
    cp -a "$root$path" "$old$path"
  done
}
# in_place FROM PATH: by a rename, so that nobody sees half a file
in_place() {
  cp -a "$1" "$root$2.sanedge-new"
  mv -f "$root$2.sanedge-new" "$root$2"
}
put_new() {
  while read -r kind a b c path; do
    case $kind in
      dir) mkdir -p "$root$path" && chown "$b:$c" "$root$path" && chmod "$a" "$root$path" ;;
      file)
        mkdir -p "$root$(dirname "$path")"
        chown "$b:$c" "$dir/root$path" && chmod "$a" "$dir/root$path"
        in_place "$dir/root$path" "$path"
        ;;
      link) mkdir -p "$root$(dirname "$b")" && ln -sfn "$a" "$root$b" ;;
      gone) rm -f "$root$a" ;;
    esac
  done <"$dir/plan"
}
put_old() {
  for path in $(paths); do
    if exists "$old$path"; then in_place "$old$path" "$path"
    else rm -f "$root$path"; fi
  done
}
sockets() { sed -n 's/^link .*\/\(sanedge-[a-z]*\.socket\)$/\1/p' "$dir/plan"; }
# Where only program or bundle changed the sockets stay open and nobody is turned away.
start() {
  systemctl daemon-reload
  if [ -n "$sockets_differ" ]; then
    systemctl stop sanedge.service sanedge-https.socket sanedge-http.socket sanedge-admin.socket || :
    systemctl start "$@"
    systemctl start sanedge.service
  else
    systemctl restart sanedge.service
  fi
}
ready() {
  systemctl is-active --quiet sanedge.service || return 1
  found=$("$root/usr/bin/sanedge" status --json) || return 1
  case $found in *"$wanted"*) ;; *) say "the edge uses another bundle"; return 1 ;; esac
}
doctor() {
  "$root/usr/bin/sanedge" doctor --help >/dev/null 2>&1 || return 0
  timeout 60 "$root/usr/bin/sanedge" doctor /etc/sanedge/sanedge.bundle
}

systemctl is-active --quiet sanedge.service && was_active=1
if [ -n "$was_active" ] && doctor >/dev/null 2>&1; then was_healthy=1; fi
systemd-sysusers "$dir/root/usr/lib/sysusers.d/sanedge.conf"
keep
kept=1

rollback() {
  status=1
  set +e
  say "not ready; the unit says:"
  journalctl -u sanedge.service -n 15 --no-pager -o cat | sed 's/^/        /'
  put_old
  systemctl daemon-reload
  if [ -n "$was_active" ]; then
    start $(cd "$root/etc/systemd/system/sockets.target.wants" && echo sanedge-*.socket)
    if systemctl is-active --quiet sanedge.service; then say "rolled back: the old edge serves again"
    else say "rolled back, but the old edge does not start either"; fi
  else
    systemctl stop sanedge.service sanedge-https.socket sanedge-http.socket sanedge-admin.socket
    say "rolled back: program, units and bundle were taken away again; the user sanedge, /etc/sanedge and empty folders for drop-ins stay"
  fi
}

sockets_differ=1
put_new
if [ -n "$was_active" ]; then
  sockets_differ=
  for path in $(paths | grep '\.socket'); do same "$old$path" "$root$path" || sockets_differ=1; done
fi
systemd-tmpfiles --create "$root/usr/lib/tmpfiles.d/sanedge.conf"
start $(sockets)
ready
if ! doctor >"$dir/doctor" 2>&1; then
  sed 's/^/        /' "$dir/doctor" || :
  if [ -n "$was_healthy" ]; then say "\`sanedge doctor\` found nothing wrong before, and does now"; exit 1; fi
  say "\`sanedge doctor\` found the above; the edge itself is ready"
fi

# Raspberry Pi kernels start with the memory controller off.
if [ -e /sys/fs/cgroup/cgroup.controllers ] && ! grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
  for line in "$root/boot/firmware/cmdline.txt" "$root/boot/cmdline.txt"; do
    [ -f "$line" ] && ! grep -q cgroup_enable=memory "$line" || continue
    sed 's/ *$/ cgroup_enable=memory/' "$line" >"$line.new" && mv -f "$line.new" "$line"
    say "MemoryMax= will hold after the next reboot: cgroup_enable=memory is in $line now"
    break
  done
fi
committed=1
say "ready: $("$root/usr/bin/sanedge" --version)"
