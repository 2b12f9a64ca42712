# shellcheck shell=bash disable=SC2016,SC2154  # sourced by tests/deb/run, after others.bash
#
# The trial of a new program (packaging/upgrade.sh), cut short: with the package installed, the units enabled and the edge serving.
# tests/cuts/package does it at every step, with a stand-in for systemd; here it is the real one.

# slow NAME COMMAND: the package as NAME, whose program takes 4 s for its start and then runs COMMAND
slow() {
  repack "$1"
  mv "$scratch/$1/usr/bin/sanedge" "$scratch/$1/usr/lib/sanedge/sanedge.real"
  printf '#!/bin/sh\n[ "$1" != serve ] || { sleep 4; %s; }\nexec /usr/lib/sanedge/sanedge.real "$@"\n' "$2" >"$scratch/$1/usr/bin/sanedge"
  chmod 755 "$scratch/$1/usr/bin/sanedge"
  pack "$1"
}
slow slowdead 'exit 1'
slow slowgood ':'
drop_in=/usr/lib/systemd/system/sanedge.service.d/00-before.conf
is_tried() { [ -e "$root$drop_in.hold" ] && [ "$(inside systemctl show -P SubState sanedge.service)" = start ]; }
# What `get` reaches is the old edge again, or the new one for good.
is_old() { runs "$before" && [ ! -e "$root$drop_in.hold" ]; }
is_new() { [ ! -e "$root$drop_in" ] && [ ! -e "$root$before" ]; }
# A start that fails and the next one take their time.
serves() { [ "$(get 127.0.0.1)" = 200 ]; }
# dpkg -i in a unit of its own, until the new program is being started
until_tried() { # NAME
  inside systemd-run --quiet --collect --unit=cut dpkg -i "/root/$1.deb"
  until_true 60 is_tried
}

step 'power that goes while a program is tried that does not start: the boot tries it, and goes back to the old one'
until_tried slowdead
power_off
boot
app
until_true 60 serves
until_true 20 is_old
inside dpkg --configure -a >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'dpkg --configure -a'; }
said 'the old program serves again'
installed
expect 'configured' 200 "$(get 127.0.0.1)"
runs "$before" || fail 'not the old program'
upgrade /root/sanedge.deb
all_new 'after another upgrade'

step 'power that goes while a good one is tried: the boot has the new program'
until_tried slowgood
power_off
boot
app
until_true 60 serves
until_true 20 is_new
inside dpkg --configure -a >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'dpkg --configure -a'; }
installed
upgrade /root/sanedge.deb
all_new 'after another upgrade'

step 'dpkg killed while a program is tried that does not start: back to the old one all the same'
until_tried slowdead
inside systemctl kill --signal=KILL cut.service
until_true 60 serves
until_true 20 is_old
inside dpkg --configure -a >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail 'dpkg --configure -a'; }
upgrade /root/sanedge.deb
all_new 'after another upgrade'

step 'an upgrade of a stopped edge: its next start tries the new program'
inside systemctl stop 'sanedge-*.socket' sanedge.service
upgrade /root/dead.deb
said 'the next start of sanedge.service tries the new program'
# shellcheck disable=SC2086 # a word for each
inside systemctl start $units 2>/dev/null || true
until_true 60 serves
until_true 20 is_old
inside systemctl stop 'sanedge-*.socket' sanedge.service
upgrade /root/next.deb
# shellcheck disable=SC2086
inside systemctl start $units
all_new 'with a good one'

step 'where policy-rc.d forbids to start anything and the old process dies: that says nothing about the new program'
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
upgrade /root/sanedge.deb
rm "$root/usr/sbin/policy-rc.d"
inside bash -c 'kill -KILL "$0"' "$(main_pid)"
until_true 60 serves
until_true 20 is_new # it serves before systemd has run what ends the upgrade
all_new 'after the kill'

step 'a full disk at the next upgrade, while the old program still serves: it goes on'
upgrade /root/deaf.deb
runs_old() { restarted && expect "$1" 200 "$(get 127.0.0.1)" && runs "$before"; }
runs_old 'before' || fail 'not the old program'
inside mount -t tmpfs -o size=1m tmpfs /usr/share/doc/sanedge/docs # what is unpacked there has no room
inside dd if=/dev/zero of=/usr/share/doc/sanedge/docs/filler bs=4k status=none 2>/dev/null || true
if inside dpkg -i /root/next.deb >"$scratch/log" 2>&1 </dev/null; then fail 'an upgrade onto a full disk succeeded'; fi
inside umount /usr/share/doc/sanedge/docs
runs_old 'after the failed one' || fail 'not the old program'
upgrade /root/sanedge.deb
all_new 'after another upgrade'
