#!/bin/sh
# Switches to a new program; if that does not start, the old one keeps serving. Installed as /usr/lib/sanedge/upgrade.
#
# Before dpkg replaces the program, preinst keeps the old one and writes a drop-in for sanedge.service. At any time, also after a loss of
# power, the drop-in decides what the next start does:
#
#   hold    the old program starts, with the bundle that it had
#   trial   the new program starts. Once it is ready, systemd runs `upgrade runs`, which ends the upgrade; if it does not become
#           ready, systemd runs `upgrade stopped`, which goes back to hold, and then starts the service again
#   none    the new program starts
#
# If the edge runs, `upgrade try` first tries the new program beside it (docs/operations.md). If that fails, it goes back to hold.
#
# Each transition is the renaming or the removal of one file.
# shellcheck disable=SC3013 # every sh of Debian has -ef
set -e

before=/usr/lib/sanedge/sanedge.before
drop_in=/usr/lib/systemd/system/sanedge.service.d/00-before.conf
program=/usr/bin/sanedge # not another one in PATH
bundle=/etc/sanedge/sanedge.bundle
toml=/etc/sanedge/sanedge.toml
# Exists while the running process is still one of the old program: its end says nothing about the new program.
old_runs=/run/sanedge.old-runs

say() { echo "sanedge: $*" >&2; }
# `mv` refuses two names of one file.
put_back() { if [ "$1" -ef "$2" ]; then rm -f "$1"; else mv -f "$1" "$2"; fi; }
reload_units() { [ ! -d /run/systemd/system ] || systemctl daemon-reload; }

# Whether the new program can read the bundle, or one that it compiles from the sanedge.toml beside it.
readable() {
  [ -e "$bundle" ] || return 0
  ! "$program" show "$bundle" >/dev/null 2>&1 || return 0
  if [ -e "$toml" ] && "$program" bundle "$toml" -o "$bundle.next" >/dev/null 2>&1; then
    replace_bundle
    say "the bundle was compiled again from $toml for this version"
    return 0
  fi
  rm -f "$bundle.next"
  return 1
}
# With the drop-in, the old program opens the old bundle under its second name.
replace_bundle() {
  chown --reference="$bundle" "$bundle.next"
  chmod --reference="$bundle" "$bundle.next"
  keep_bundle
  sync "$bundle.next" "${bundle%/*}"
  mv -f "$bundle.next" "$bundle"
}
keep_bundle() {
  if [ -e "$drop_in" ] && [ ! -e "$bundle.upgrade" ]; then
    ln "$bundle" "$bundle.upgrade" 2>/dev/null || copy_of_bundle
    sync "${bundle%/*}"
  fi
}
copy_of_bundle() {
  cp -p "$bundle" "$bundle.upgrade.new"
  sync "$bundle.upgrade.new"
  mv "$bundle.upgrade.new" "$bundle.upgrade"
}

put_on_trial() {
  cat >"$drop_in.new" <<UNIT
# Written by an upgrade of the package. The first start of the new program removes this.
[Service]
ExecStartPost=-+/usr/lib/sanedge/upgrade runs
ExecStopPost=-+/usr/lib/sanedge/upgrade stopped
UNIT
  [ "$drop_in" -ef "$drop_in.hold" ] || ln -f "$drop_in" "$drop_in.hold" 2>/dev/null || cp "$drop_in" "$drop_in.hold"
  sync "$drop_in.new" "$drop_in.hold" "${drop_in%/*}"
  mv -f "$drop_in.new" "$drop_in"
  sync "${drop_in%/*}"
}
on_trial() { [ -e "$drop_in.hold" ] && [ ! "$drop_in.hold" -ef "$drop_in" ]; }

# Removes the drop-in first: without it the rest has no effect.
runs() {
  rm -f "$drop_in"
  sync "${drop_in%/*}"
  rm -f "$old_runs" "$drop_in.hold" "$drop_in.new" "$before" "$before.new" "$bundle.upgrade" "$bundle.upgrade.new" "$bundle.next"
}

failed() {
  on_trial || return 0
  put_back "$drop_in.hold" "$drop_in"
  [ ! -e "$bundle.upgrade" ] || put_back "$bundle.upgrade" "$bundle"
  sync "${drop_in%/*}" "${bundle%/*}"
  reload_units
}

# The reload of the units closed the listener of an edited socket unit; the edge starts only after that unit.
restart() {
  # shellcheck source=flash/ports.sh
  . /usr/lib/sanedge/who-has-port
  closed=$(closed_sockets 'sanedge-*.socket' | sort -u)
  # shellcheck disable=SC2086 # a word for each
  if [ -z "$closed" ]; then deb-systemd-invoke try-restart sanedge.service
  else deb-systemd-invoke stop sanedge.service $closed && deb-systemd-invoke start $closed sanedge.service; fi
}

# Tries the new program in the sandbox of the unit. What cannot be tried (codes other than 1) is left to the restart.
starts() {
  "$program" apply --preflight "$toml" || [ $? -ne 1 ]
}

# While the system shuts down, nothing can be started.
goes_down() { [ "$(systemctl is-system-running)" = stopping ]; }

try() {
  if ! readable; then
    keep_bundle # a bundle compiled for the new program must not replace the only one that the old program can read
    if [ -e "$before" ]; then say "the new program cannot read $bundle; the old program stays in use, also after a boot. Now type"
    else say "the new program cannot read $bundle. Now type"; fi
    echo "  sanedge bundle $toml && dpkg-reconfigure sanedge" >&2
    return
  fi
  [ ! -e "$drop_in" ] || on_trial || put_on_trial
  [ -d /run/systemd/system ] || return 0
  systemctl daemon-reload
  if systemctl --quiet is-active sanedge.service; then
    if ! goes_down && ! starts && ! goes_down; then
      failed
      say "the old process keeps running, and nothing was restarted. \`dpkg-reconfigure sanedge\` tries the new program again"
      return
    fi
    touch "$old_runs"
  fi
  if ! goes_down && ! restart && ! goes_down; then
    say "it did not come up again; \`journalctl -u sanedge.service\` says why"
    failed
    if deb-systemd-invoke restart sanedge.service && [ -e "$drop_in" ]; then
      say "the old program serves again; \`dpkg-reconfigure sanedge\` tries the new one"
    fi
  elif on_trial; then
    say "the next start of sanedge.service tries the new program; if that does not start, the old one does"
  fi
  systemctl daemon-reload
}

# ExecStopPost= is run at each stop of the service.
stopped() {
  if [ -e "$old_runs" ]; then rm -f "$old_runs"
  elif [ "${SERVICE_RESULT:-}" != success ]; then failed; fi
}

case $1 in
  try | runs | stopped) "$1" ;;
  *) echo 'usage: upgrade try|runs|stopped' >&2; exit 2 ;;
esac
