# shellcheck shell=bash disable=SC2016,SC2154  # sourced by tests/deb/run: with the package installed, the units enabled and the edge serving
#
# What administrators and other programs do to an installed package: `systemctl edit`, masks, a downgrade, needrestart,
# unattended-upgrades, and an upgrade while the system goes down.

# repack NAME: the package as NAME, a later version; its tree is $scratch/NAME until `pack NAME` makes $root/root/NAME.deb
repack() {
  dpkg-deb -R "$deb" "$scratch/$1"
  sed -i "s/^Version: .*/&+z$1/" "$scratch/$1/DEBIAN/control"
}
pack() { dpkg-deb -Znone --root-owner-group -b "$scratch/$1" "$root/root/$1.deb" >/dev/null; }
version_of() { dpkg-deb -f "$root/root/$1.deb" Version; }
installed_version() { inside dpkg-query -W -f '${Version}' sanedge; }
# edited [--full] UNIT <TEXT: what a person does in the editor that `systemctl edit` opens
edited() {
  cat >"$root/root/edited"
  # Its last argument: a number of a line may come first.
  printf '#!/bin/sh\nfor file; do :; done\ncp /root/edited "$file"\n' >"$root/root/editor"
  chmod 755 "$root/root/editor"
  inside script -qec "env SYSTEMD_EDITOR=/root/editor systemctl edit $*" /dev/null >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "systemctl edit $*"; }
}
# under_load COMMAND…: nobody is turned away meanwhile
under_load() {
  local load
  rm -f "$scratch/enough" "$scratch/codes"
  while [ ! -e "$scratch/enough" ]; do get 127.0.0.1 || printf ' refused'; echo; done >"$scratch/codes" 2>&1 &
  load=$!
  until_true 20 test -s "$scratch/codes"
  "$@"
  touch "$scratch/enough"
  wait "$load"
  expect 'answers meanwhile' 200 "$(sort -u "$scratch/codes" | paste -sd' ')"
}
restarted() { inside systemctl restart sanedge.service; }
# None of what an upgrade keeps for a while is left, and the edge runs the program of the package.
all_new() {
  installed
  expect "$1" 200 "$(get 127.0.0.1)"
  runs /usr/bin/sanedge || fail "$1: not the new program"
  [ ! -e "$root$before" ] || fail "$1: the old program is still kept"
}

step 'a downgrade'
upgrade /root/next.deb
upgrade /root/sanedge.deb
said 'downgrading'
all_new 'after the downgrade'

step 'a drop-in of `systemctl edit`: kept, and an ExecStart= in it starts no program that cannot read the bundle'
edited sanedge.service <<'UNIT'
[Service]
MemoryMax=77M
ExecStart=
ExecStart=/usr/bin/sanedge serve /etc/sanedge/sanedge.bundle
UNIT
upgrade /root/deaf.deb
said 'the old program stays in use, also after a boot'
restarted
expect 'after a restart' 200 "$(get 127.0.0.1)"
runs "$before" || fail 'not the old program'
inside systemctl reload sanedge.service
upgrade /root/sanedge.deb
all_new 'with a drop-in'
expect 'the drop-in' $((77 * 1048576)) "$(inside systemctl show -P MemoryMax sanedge.service)"
rm "$root/etc/systemd/system/sanedge.service.d/override.conf"
inside systemctl daemon-reload

step 'power that goes before the old program is kept, where its drop-in is on the disk already'
upgrade /root/deaf.deb
cp "$root/usr/lib/systemd/system/sanedge.service.d/00-before.conf" "$scratch/00-before.conf"
upgrade /root/sanedge.deb
install -m 0644 "$scratch/00-before.conf" "$root/usr/lib/systemd/system/sanedge.service.d/00-before.conf"
inside systemctl daemon-reload
restarted
expect 'without that file' 200 "$(get 127.0.0.1)"
upgrade /root/sanedge.deb
all_new 'after the next upgrade'

step 'a copy of the unit by `systemctl edit --full`, with another bundle: kept, and the same holds'
mv "$root/etc/sanedge/sanedge.bundle" "$root/etc/sanedge/other.bundle"
sed 's/^MemoryMax=.*/MemoryMax=78M/; s/sanedge\.bundle/other.bundle/' "$root/usr/lib/systemd/system/sanedge.service" | edited --full sanedge.service
restarted
upgrade /root/deaf.deb
restarted
expect 'after a restart' 200 "$(get 127.0.0.1)"
upgrade /root/sanedge.deb
all_new 'with a copy of the unit'
expect 'the unit' "/etc/systemd/system/sanedge.service $((78 * 1048576))" \
  "$(inside systemctl show -P FragmentPath sanedge.service) $(inside systemctl show -P MemoryMax sanedge.service)"
inside rm /etc/systemd/system/sanedge.service
mv "$root/etc/sanedge/other.bundle" "$root/etc/sanedge/sanedge.bundle"
inside systemctl daemon-reload
restarted

step 'a socket unit that was edited and not restarted: the upgrade opens it anew'
listen_at() { # PORT
  sed -i "s|^https = .*|https = [\"[::]:$1\"]|" "$root/etc/sanedge/sanedge.toml"
  inside sanedge bundle /etc/sanedge/sanedge.toml -o /etc/sanedge/sanedge.bundle >/dev/null
  printf '[Socket]\nListenStream=\nListenStream=%s\n' "$1" | edited sanedge-https.socket
}
listen_at 8443
upgrade /root/next.deb
installed
expect 'the port of the edited unit' 200 "$(get 127.0.0.1 8443)"
listen_at 443
upgrade /root/sanedge.deb
all_new 'back on its port'
inside systemctl revert sanedge-https.socket >/dev/null 2>&1

step 'masked units: an upgrade and a removal leave them so'
# shellcheck disable=SC2086 # a word for each
inside systemctl --quiet mask --now $units
upgrade /root/next.deb
installed
expect 'masked' masked "$(inside systemctl is-enabled sanedge.service || true)"
expect 'masked and stopped' inactive "$(inside systemctl is-active sanedge.service || true)"
inside dpkg -r sanedge >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'dpkg -r with masked units'; }
upgrade /root/sanedge.deb
installed
# shellcheck disable=SC2086
inside systemctl --quiet unmask $units
# shellcheck disable=SC2086
inside systemctl --quiet enable --now $units
all_new 'unmasked'

step 'needrestart: an upgrade leaves nothing for it'
wants_restart() { inside needrestart -b -r l 2>/dev/null | grep -qx 'NEEDRESTART-SVC: sanedge.service'; }
needrestart_all() { inside needrestart -q -r a >/dev/null 2>&1; }
upgrade /root/next.deb
if wants_restart; then fail 'it would restart the edge'; fi

step 'needrestart: where policy-rc.d forbids to start anything it brings the new program, none refused'
pid=$(main_pid)
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
upgrade /root/sanedge.deb
rm "$root/usr/sbin/policy-rc.d"
expect 'the same process' "$pid" "$(main_pid)"
wants_restart || fail 'it does not see that the program was replaced'
under_load needrestart_all
[ "$(main_pid)" != "$pid" ] || fail 'no new process'
all_new 'after needrestart'

step 'needrestart: where the new program cannot read the bundle it restarts the old one, once'
upgrade /root/deaf.deb
wants_restart || fail 'it does not see that the program was replaced'
needrestart_all
expect 'after needrestart' 200 "$(get 127.0.0.1)"
runs "$before" || fail 'not the old program'
if wants_restart; then fail 'it would restart the edge again and again'; fi
upgrade /root/sanedge.deb
all_new 'with a program that reads it'

# --- unattended-upgrades ---------------------------------------------------------------------------------------------------------

archive=$root/srv/archive
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/archive ./' >"$root/etc/apt/sources.list.d/archive.list"
echo 'Unattended-Upgrade::Origins-Pattern { "origin=sanedge"; };' >"$root/etc/apt/apt.conf.d/52archive"
publish() { # NAME
  rm -rf "$archive"
  mkdir -p "$archive"
  cp "$root/root/$1.deb" "$archive/sanedge_$1.deb"
  (
    cd "$archive" || exit
    dpkg-deb -f "sanedge_$1.deb" | grep .
    printf 'Filename: ./sanedge_%s.deb\nSize: %s\nSHA256: %s\n' "$1" "$(stat -c %s "sanedge_$1.deb")" "$(sha256sum "sanedge_$1.deb" | cut -d' ' -f1)"
  ) >"$scratch/Packages"
  mv "$scratch/Packages" "$archive/Packages"
  printf 'Origin: sanedge\nLabel: sanedge\nSuite: stable\nCodename: stable\nSHA256:\n %s %s Packages\n' \
    "$(sha256sum "$archive/Packages" | cut -d' ' -f1)" "$(stat -c %s "$archive/Packages")" >"$archive/Release"
  inside apt-get -q update >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'apt-get update'; }
}
unattended() {
  inside systemd-run --quiet --collect --wait --pipe --unit=upgrades unattended-upgrade -v >"$scratch/log" 2>&1 </dev/null || { cat "$scratch/log"; fail 'unattended-upgrade'; }
}
expect_version() { expect 'the version' "$(version_of "$1")" "$(installed_version)"; }
for name in later1 later2 later3; do
  repack "$name"
  pack "$name"
done

step 'unattended-upgrades, with an edited sanedge.toml: the new program, none refused'
echo '# mine' >>"$root/etc/sanedge/sanedge.toml"
publish later1
under_load unattended
expect_version later1
all_new 'after it'
expect 'the last line' '# mine' "$(tail -n 1 "$root/etc/sanedge/sanedge.toml")"

step 'unattended-upgrades, killed while the package is configured: the old program serves until dpkg --configure'
# Its postinst waits until the file is gone.
sed -i '2i while [ -e /run/wait ]; do touch /run/waits; sleep 0.1; done' "$scratch/later2/DEBIAN/postinst"
pack later2
publish later2
touch "/proc/$booted/root/run/wait"
inside systemd-run --quiet --collect --unit=upgrades unattended-upgrade -v
until_true 120 test -e "/proc/$booted/root/run/waits"
inside systemctl kill --signal=KILL upgrades.service
until_true 20 inside sh -c '[ "$(systemctl is-active upgrades.service)" = inactive ]'
expect 'meanwhile' 200 "$(get 127.0.0.1)"
restarted
expect 'after a restart' 200 "$(get 127.0.0.1)"
runs "$before" || fail 'not the old program'
rm "/proc/$booted/root/run/wait"
# Debian's unattended-upgrade does not do this by itself: it cannot lock what dpkg left like that.
inside dpkg --configure -a >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'dpkg --configure -a'; }
expect_version later2
all_new 'configured'

step 'unattended-upgrades while the system goes down: configured, and the next boot has the new program'
publish later3
cat >"$root/etc/systemd/system/at-shutdown.service" <<'UNIT'
[Unit]
After=local-fs.target
# Stopped before the edge, which then has a job of its own to be stopped.
After=sanedge.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/usr/bin/unattended-upgrade -v
TimeoutStopSec=300
StandardOutput=file:/root/at-shutdown.log
StandardError=file:/root/at-shutdown.log
UNIT
inside systemctl daemon-reload
inside systemctl start at-shutdown.service
shut_down
rm "$root/etc/systemd/system/at-shutdown.service"
if grep -q 'did not come up' "$root/root/at-shutdown.log" "$root"/var/log/unattended-upgrades/*.log; then fail 'it says that the edge did not come up'; fi
boot
app
expect_version later3
all_new 'after the boot'
rm -r "$archive" "$root/etc/apt/apt.conf.d/52archive" "$root/etc/apt/sources.list.d/archive.list"
upgrade /root/sanedge.deb
