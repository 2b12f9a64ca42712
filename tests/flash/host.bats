#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# A running board over ssh. Here ssh is a stand-in that runs everything on this machine below $board, a folder, with
# stand-ins for what would change the system; tests/boot does the same with an emulated board and the real ones.

load support
setup_file() { make_all; }
setup() { enter_board; }
teardown() { leave_board; }

@test "a board gets program, units and bundle, and nothing of ours stays in /tmp" {
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "ready: sanedge"
  [ "$(stat -c %a "$board/etc/sanedge/sanedge.bundle")" = 640 ]
  grep -q 'chown root:sanedge .*/.sanedge.bundle.sanedge-new' "$state/asked"
  grep -q 'start sanedge-https.socket sanedge-admin.socket' "$state/asked"
  [ "$(readlink "$board/etc/systemd/system/sockets.target.wants/sanedge-https.socket")" = /usr/lib/systemd/system/sanedge-https.socket ]
  cmp "$board/usr/lib/systemd/system/sanedge.service" "$repository/systemd/sanedge.service"
  nothing_in_tmp
  only_the_image_is_left
}

@test "root needs no sudo" {
  echo 0 >"$state/uid"
  flash --host root@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  ! grep -q '^sudo' "$state/asked" || false
  nothing_in_tmp
}

@test "where sudo refuses, no key stays on the board" {
  stand_in sudo 'echo "sudo: 3 incorrect password attempts" >&2; exit 1'
  flash --host pi@board
  [ "$status" -eq 1 ] || { echo "$output"; false; }
  says "incorrect password" "was not installed on pi@board"
  nothing_in_tmp
  [ -z "$(snapshot)" ]
}

@test "a line that breaks: what had not begun is cleared away, what had goes on and does that itself" {
  cp "$bin/ssh" "$bin/ssh.whole"
  # Before: while sudo asks for a password.
  sed -i '2a case "$*" in *"/install") exit 255 ;; esac' "$bin/ssh"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "the connection to pi@board was lost" "host-lost"
  nothing_in_tmp
  [ -z "$(snapshot)" ]
  # After: root works there, and here it looks like the end.
  echo 0 >"$state/uid"
  sed -i '3s/exit 255/mkfifo "$STATE"\/go; "$0.whole" "$@" >"$STATE"\/said 2>\&1 3>\&- \& while [ ! -p "$STATE"\/begun ]; do sleep 0.05; done; exit 255/' "$bin/ssh"
  stand_in systemd-sysusers 'mkfifo "$STATE/begun"; read -r _ <"$STATE/go"'
  flash --host root@board
  [ "$status" -eq 1 ]
  [ -e "$(tail -n 1 "$state/folders")/begun" ]
  echo >"$state/go"
  for _ in {1..300}; do nothing_in_tmp >/dev/null && break; sleep 0.1; done
  nothing_in_tmp
  grep "ready: sanedge" "$state/said"
  [ -e "$board/etc/sanedge/sanedge.bundle" ]
}

@test "where nobody can clear the board, its owner hears of it" {
  sed -i '2a case "$*" in *"/install") touch "$STATE/cut"; exit 255 ;; *" sh") [ ! -e "$STATE/cut" ] || exit 255 ;; esac' "$bin/ssh"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "private keys may be left on pi@board: remove $(cat "$state/folders") there"
}

@test "an upgrade leaves the sockets open" {
  flash --host pi@board
  rm "$state/asked"
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  grep -qx 'restart sanedge.service' "$state/asked"
  run grep -E '^(stop|start) .*(socket|sanedge\.service)' "$state/asked"
  [ -z "$output" ]
  grep -qx 'start sanedge-renew.timer sanedge-deploy.path' "$state/asked"
}

@test "staged files of an installation that left no journal are not taken for new ones" {
  flash --host pi@board
  snapshot >before
  echo half >"$board/usr/lib/systemd/system/.sanedge.service.sanedge-new"
  ln -s nowhere "$board/etc/systemd/system/multi-user.target.wants/.sanedge.service.sanedge-new"
  ln "$board/usr/bin/sanedge" "$board/usr/bin/.sanedge.sanedge-old"
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  snapshot | diff before -
}

@test "a program that an upgrade of the package kept is started no more" {
  mkdir -p "$board/usr/lib/systemd/system/sanedge.service.d"
  echo '[Service]' >"$board/usr/lib/systemd/system/sanedge.service.d/00-before.conf"
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ ! -e "$board/usr/lib/systemd/system/sanedge.service.d/00-before.conf" ]
}

@test "an upgrade to another port opens the sockets anew" {
  flash --host pi@board
  rm "$state/asked" sanedge.toml
  config rpi4 'https = ["[::]:8443"]' >sanedge.toml
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  grep -q '^stop sanedge.service sanedge-https.socket' "$state/asked"
  grep -q '8443' "$board/etc/systemd/system/sanedge-https.socket.d/50-bundle.conf"
}

@test "with another admin socket the unit reloads by the bundle, and needs no more" {
  rm sanedge.toml
  config rpi4 $'https = ["[::]:443"]\nadmin = "unix:/run/other/admin.sock"' >sanedge.toml
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  grep -qx 'ListenStream=/run/other/admin.sock' "$board/etc/systemd/system/sanedge-admin.socket.d/50-bundle.conf"
  grep -qx 'ExecReload=/usr/bin/sanedge reload --bundle /etc/sanedge/sanedge.bundle' "$board/usr/lib/systemd/system/sanedge.service"
  rm sanedge.toml
  config rpi4 $'https = ["[::]:443"]\nadmin = "127.0.0.1:9443"' >sanedge.toml
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ ! -e "$board/etc/systemd/system/sockets.target.wants/sanedge-admin.socket" ]
}


@test "an upgrade that does not start is taken back" {
  flash --host pi@board
  snapshot >before
  rm sanedge.toml && config rpi4 'https = ["[::]:8443"]
http = ["[::]:80"]' >sanedge.toml
  touch "$state/broken"
  flash --host pi@board
  [ "$status" -eq 1 ] || { echo "$output"; false; }
  says "the journal" "rolled back: the old edge serves again" "was not installed on pi@board"
  snapshot | diff before -
  [ -e "$state/active" ]
}

@test "an edge that starts and does not answer is taken back" {
  flash --host pi@board
  snapshot >before
  rm sanedge.toml && config rpi4 'https = ["[::]:8443"]' >sanedge.toml
  touch "$state/dumb"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "rolled back"
  snapshot | diff before -
}

@test "a first installation that does not start leaves nothing" {
  touch "$state/broken"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "program, units and bundle are removed; the users sanedge and sanedge-acme, /etc/sanedge and empty folders for drop-ins stay"
  [ -z "$(snapshot)" ]
  [ -d "$board/etc/sanedge" ]
}

@test "the doctor takes an upgrade back only where there was nothing wrong before" {
  : >"$state/doctor" # finds something, always
  flash --host pi@board
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "the doctor looked" "the edge itself is ready"
  flash --host pi@board
  [ "$status" -eq 0 ]
  echo healthy >"$state/doctor" # finds nothing, until the board has a file `new`
  stand_in systemd-tmpfiles 'touch '"$board"'/new'
  snapshot >before
  rm sanedge.toml && config rpi4 'https = ["[::]:8443"]' >sanedge.toml
  flash --host pi@board
  [ "$status" -eq 1 ] || { echo "$output"; false; }
  says "a failure that it did not report before" "rolled back"
  snapshot | grep -v '^./new' | diff before -
}

@test "what cannot be installed on" {
  echo x86_64 >"$state/machine"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "pi@board is not a rpi4" x86_64
  echo armv6l >"$state/machine"
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "pi@board is not a rpi4" armv6l
  # profile, kernel, whether they go together
  local profile kernel right
  while read -r profile kernel right; do
    rm -f sanedge.toml && config "$profile" >sanedge.toml
    echo "$kernel" >"$state/machine"
    flash --board "$profile" --binary program.arm --host pi@board --dry-run
    [ "$status" -eq "$right" ] || { echo "$profile $kernel: $output"; false; }
    [ "$right" -eq 0 ] || says "pi@board is not a $profile" "$kernel"
  done <<'TABLE'
rpi2 armv6l 1
rpi2 armv7l 0
rpi2 aarch64 0
rpi2 x86_64 1
rpi-zero armv6l 0
rpi-zero armv7l 0
TABLE
  rm sanedge.toml && config rpi4 >sanedge.toml
  echo aarch64 >"$state/machine"
  cp "$bin/systemctl" systemctl.true
  stand_in systemctl 'echo "systemctl: not found" >&2; exit 127'
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "pi@board does not run systemd"
  cp systemctl.true "$bin/systemctl"
  # What a login says may be anything: it is removed nowhere.
  mkdir "$state/precious"
  stand_in mktemp 'case "$*" in *" /tmp/sanedge."*) echo "$STATE/precious" ;; *) exec "$real" "$@" ;; esac'
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "no folder could be created on pi@board" "/tmp/sanedge.…" "$state/precious"
  [ -d "$state/precious" ]
  rm "$bin/mktemp"
  stand_in ssh 'exit 255'
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "pi@board cannot be reached by ssh" "try: ssh pi@board"
  [ -z "$(snapshot)" ]
}

@test "stopped while it sends, it leaves no key on the board" {
  cp "$bin/ssh" "$bin/ssh.whole"
  sed -i '2a case "$*" in *"tar -xf"*) "$0.whole" "$@"; echo $$ >'"$state"'/sender; kill -TERM "$(cat '"$state"'/pid)"; exec sleep 60 ;; esac' "$bin/ssh"
  run bash -c 'echo $$ >"$1"; shift; exec "$@"' - "$state/pid" "$flash" --board rpi4 --config sanedge.toml \
    --sanedge "$(host_sanedge)" --binary program --host pi@board
  [ "$status" -eq 143 ] || { echo "$status $output"; false; }
  gone "$(cat "$state/sender")"
  nothing_in_tmp
  [ -z "$(snapshot)" ]
  only_the_image_is_left
}

@test "a dry run prints every step and changes nothing there" {
  flash --host pi@board --dry-run
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "would install on pi@board" "/usr/bin/sanedge  0755 root:root" "roll back"
  [ -z "$(snapshot)" ]
}
