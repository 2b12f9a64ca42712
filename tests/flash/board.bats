#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# What a running board may be like: its login, its root file system, its ports, its kernel's parameters, its next boot.

load support
setup_file() { make_all; }
setup() { enter_board; }
teardown() { leave_board; }

installed() { [ "$status" -eq 0 ] || { echo "$output"; return 1; }; says "ready: sanedge"; }
# not_installed CODE TEXT…: refused, nothing there was changed or stopped, and no key stays
not_installed() {
  [ "$status" -eq 1 ] || { echo "exit $status: $output"; return 1; }
  says "[$1]" "${@:2}" || return
  snapshot | diff before - || return
  ! grep -E '^(stop|start|restart)' "$state/asked" || return
  [ ! -e "$state/folders" ] || nothing_in_tmp
}
before() { snapshot >before; rm -f "$state/asked"; touch "$state/asked"; }
# proc_mounts LINE…: what /proc/self/mounts of the board says
proc_mounts() { mkdir -p "$board/proc/self"; printf '%s\n' "$@" >"$board/proc/self/mounts"; }

# --- the login -----------------------------------------------------------------------------------------------------

@test "the login's shell may be any, and may talk" {
  local shell tried=0
  for shell in bash dash zsh fish 'busybox sh' tcsh; do
    command -v "${shell% *}" >/dev/null || continue
    sed -i 's|SANEDGE_ROOT=\([^ ]*\) .* "$\*" ;;|echo "aarch64 welcomes you"; echo "1000 updates"; SANEDGE_ROOT=\1 '"$shell"' -c "$*" ;;|' "$bin/ssh"
    flash --host pi@board
    installed
    nothing_in_tmp
    tried=$((tried + 1))
  done
  [ "$tried" -ge 2 ]
  [ "${SANEDGE_REQUIRE_ALL:-}" != 1 ] || { command -v zsh && command -v fish; }
}

@test "a login that runs no commands" {
  before
  for said in 'echo "This account is currently not available."; exit 1' 'echo "welcome to git"; exit 0' 'cat >/dev/null; exit 0'; do
    stand_in ssh 'while [ "$1" != -- ]; do shift; done; shift 2; [ -n "$*" ] || exit 0; '"$said"
    flash --host pi@board
    not_installed host-shell "does not run commands"
  done
}

@test "why ssh does not connect, and what to do" {
  before
  local code said checked=0
  while IFS='|' read -r code said; do
    stand_in ssh 'while [ "$1" != -- ]; do shift; done; shift 2; [ -n "$*" ] || exit 0; echo "'"$said"'" >&2; exit 255'
    flash --host ssh://pi@board:2222
    not_installed "$code" "$said"
    checked=$((checked + 1))
  done <<'TABLE'
host-key|@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
host-unknown|Host key verification failed.
host-expired|WARNING: Your password has expired.
host-login|pi@board: Permission denied (publickey,password).
host-closed|ssh: connect to host board port 22: Connection refused
host-closed|kex_exchange_identification: read: Connection reset by peer
host-name|ssh: Could not resolve hostname board: Name or service not known
host-silent|ssh: connect to host board port 22: Connection timed out
host-silent|ssh: connect to host board port 22: No route to host
host-unreachable|something else
TABLE
  [ "$checked" -eq 10 ]
  stand_in ssh 'while [ "$1" != -- ]; do shift; done; shift 2; [ -n "$*" ] || exit 0; echo "REMOTE HOST IDENTIFICATION HAS CHANGED" >&2; exit 255'
  flash --host ssh://pi@board:2222
  says "ssh-keygen -R [board]:2222"
  flash --host pi@board
  says "ssh-keygen -R board"
}

@test "sudo that is not there, and sudo that asks without a terminal" {
  before
  stand_in sudo 'echo "sudo: a terminal is required to read the password" >&2; exit 1'
  flash --host pi@board
  not_installed host-sudo-password "a terminal is required"
  mkdir "$BATS_TEST_TMPDIR/path"
  ln -sf /usr/bin/* /usr/sbin/* "$bin"/* "$BATS_TEST_TMPDIR/path/"
  rm -f "$BATS_TEST_TMPDIR/path/sudo"
  sed -i 's|SANEDGE_ROOT=|PATH='"$BATS_TEST_TMPDIR/path"' SANEDGE_ROOT=|' "$bin/ssh"
  flash --host pi@board
  not_installed host-sudo "has no sudo"
}

@test "sudo that asks for a password has the terminal for it" {
  stand_in sudo '[ "$1" != -n ] || exit 1; echo "password for pi:"; read -r word; [ "$word" = secret ] || { echo "Sorry"; exit 1; }; exec "$@"'
  run script -qec "$flash --board rpi4 --config sanedge.toml --sanedge $(host_sanedge) --binary program --host pi@board" /dev/null <<<secret
  installed
  says "password for pi:"
  run script -qec "$flash --board rpi4 --config sanedge.toml --sanedge $(host_sanedge) --binary program --host pi@board" /dev/null <<<wrong
  [ "$status" -eq 1 ]
  says "Sorry" "[host-failed]"
  nothing_in_tmp
}

@test "sudo that wants a terminal gets one, also where there is none here" {
  stand_in sudo '[ -t 1 ] || { echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1; }; [ "$1" != -n ] || shift; exec "$@"'
  # A terminal for -tt, as sshd makes one; none otherwise.
  stand_in on_terminal 'exec script -qec "$*" /dev/null </dev/null'
  sed -i '2i [[ " $* " != *" -tt "* ]] || terminal=on_terminal' "$bin/ssh"
  sed -i 's|SANEDGE_ROOT=\([^ ]*\) bash -c "$\*" ;;|export SANEDGE_ROOT=\1; ${terminal:-eval} "$*" ;;|' "$bin/ssh"
  flash --host pi@board
  installed
  nothing_in_tmp
}

@test "a long folder of work, where no socket of a shared connection fits" {
  local long
  long=$BATS_TEST_TMPDIR/tmp/$(printf 'x%.0s' {1..100})
  mkdir "$long"
  sed -i '2a printf "%s\\n" "$*" >>"$STATE/ssh-words"' "$bin/ssh"
  TMPDIR=$long flash --host pi@board
  installed
  ! grep -q ControlPath "$state/ssh-words" || false
  flash --host pi@board
  grep -q ControlPath "$state/ssh-words"
}

# --- where it would be written ---------------------------------------------------------------------------------------

@test "a root file system that forgets, or is read-only" {
  before
  local mounts
  for mounts in 'overlayroot / overlay rw 0 0' 'overlay / overlay rw 0 0' 'tmpfs / tmpfs rw 0 0' '/dev/mmcblk0p2 / ext4 rw 0 0|tmpfs /etc tmpfs rw 0 0' \
    '/dev/mmcblk0p2 / ext4 rw 0 0|overlay /usr overlay rw 0 0'; do
    IFS='|' read -r -a lines <<<"$mounts"
    proc_mounts "${lines[@]}"
    before
    flash --host pi@board
    not_installed host-overlay "raspi-config nonint disable_overlayfs"
  done
  for mounts in '/dev/mmcblk0p2 / ext4 ro,relatime 0 0' '/dev/mmcblk0p2 / ext4 rw 0 0|/dev/mmcblk0p3 /usr ext4 ro 0 0' '/dev/loop0 / squashfs ro 0 0'; do
    IFS='|' read -r -a lines <<<"$mounts"
    proc_mounts "${lines[@]}"
    before
    flash --host pi@board
    not_installed host-read-only "mounted read-only"
  done
  # Healthy: a tmpfs elsewhere, a root that was remounted, an option that only begins like it.
  proc_mounts 'rootfs / tmpfs ro 0 0' '/dev/mmcblk0p2 / ext4 rw,rootcontext=x 0 0' 'tmpfs /etcetera tmpfs rw 0 0' 'tmpfs /tmp tmpfs ro 0 0'
  flash --host pi@board
  installed
}

@test "no room for the new edge is said before anything is stopped" {
  before
  stand_in df 'case "$2" in /tmp | /var/tmp) exec "$real" "$@" ;; esac; echo head; echo "/dev/x 100000 99000 $(cat "$STATE/free") 99% /mount"'
  echo 1 >"$state/free"
  flash --host pi@board
  # The program, units and the bundle, rounded up to blocks, and a MiB.
  needs=$(sed -n 's/.*expected *\([0-9]*\) KiB free/\1/p' <<<"$output")
  [ -n "$needs" ] || { echo "$output"; false; }
  echo $((needs - 1)) >"$state/free"
  flash --host pi@board
  not_installed board-room "$((needs - 1)) KiB" "nothing was changed"
  echo "$needs" >"$state/free"
  flash --host pi@board
  installed
}

@test "no inodes, where there is room: nothing is changed, and df -i is named" {
  [ "$EUID" -eq 0 ] || { skip_loudly "wants root, for a file system with few inodes"; return; }
  truncate -s 32M card
  mkfs.ext4 -q -N 64 card
  mount -o loop card "$board" 2>/dev/null || { skip_loudly "no mounts here"; return; }
  mkdir -p "$board/etc/systemd/system"
  local i=0
  # As many are left as the journal and the first files take.
  while [ "$(df --output=iavail "$board" | tail -n 1)" -gt 14 ]; do i=$((i + 1)); : >"$board/file-$i"; done
  before
  flash --host pi@board
  not_installed board-stage "df -i" || { umount "$board"; false; }
  rm "$board"/file-*
  flash --host pi@board
  umount "$board"
  installed
}

@test "no room in the folders for what comes" {
  before
  stand_in df 'case "$*" in *"-Pk /"*tmp) echo head; echo "/dev/x 1 1 100 99% /" ;; *) exec "$real" "$@" ;; esac'
  flash --host pi@board
  not_installed host-temporary "/tmp: 100 KiB; /var/tmp: 100 KiB"
  # The second has some: there it goes.
  stand_in df 'case "$*" in *"-Pk /tmp") echo head; echo "/dev/x 1 1 100 99% /" ;; *) exec "$real" "$@" ;; esac'
  stand_in mktemp 'made=$("$real" "$@") || exit; echo "$made"; case $made in /var/tmp/sanedge.????????) echo "$made" >>"$STATE/folders" ;; esac'
  flash --host pi@board
  installed
  nothing_in_tmp
}

@test "a program that does not run there, and a bundle that it cannot read, are told apart" {
  before
  cp "$bin/edge" edge.whole
  sed -i '2a echo "cannot execute" >&2; exit 126' "$bin/edge"
  flash --host pi@board
  not_installed board-program "cannot execute"
  sed '2a [ "$1" != show ] || { echo "format 9" >\&2; exit 1; }' edge.whole >"$bin/edge"
  flash --host pi@board
  not_installed board-bundle "format 9"
  cp edge.whole "$bin/edge"
  flash --host pi@board
  installed
}

@test "a folder for what comes whose file system runs no programs" {
  unshare -m true 2>/dev/null || { skip_loudly "no mount namespaces here"; return; }
  before
  stand_in df 'case "$*" in *"-Pk /tmp") echo head; echo "/dev/x 1 1 100 99% /" ;; *) exec "$real" "$@" ;; esac'
  stand_in mktemp 'made=$("$real" "$@") || exit; echo "$made"
    case $made in /var/tmp/sanedge.????????) echo "$made" >>"$STATE/folders"; findmnt -no OPTIONS /var/tmp >"$STATE/options" ;; esac'
  run unshare -m sh -c 'mount -t tmpfs -o noexec tmpfs /var/tmp && "$@" && echo "left: $(ls -A /var/tmp)"' sh \
    "$flash" --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --binary program --host pi@board
  installed
  grep -q noexec "$state/options"
  [ "${lines[-1]}" = 'left: ' ]
}

@test "a board whose ssh server has neither sftp nor scp" {
  stand_in sftp 'touch "$STATE/asked-for"; exit 1'
  stand_in scp 'touch "$STATE/asked-for"; exit 1'
  flash --host pi@board
  installed
  [ ! -e "$state/asked-for" ]
}

@test "a masked unit would not start" {
  ln -s /dev/null "$board/etc/systemd/system/sanedge.service"
  before
  flash --host pi@board
  not_installed board-masked "systemctl unmask sanedge.service"
  rm "$board/etc/systemd/system/sanedge.service"
  mkdir -p "$board/run/systemd/system"
  ln -s /dev/null "$board/run/systemd/system/sanedge-https.socket"
  stand_in systemd-run 'while [ "$1" != /bin/sh ]; do shift; done; exec "$@"'
  before
  flash --host pi@board
  not_installed board-masked "sanedge-https.socket"
  rm "$board/run/systemd/system/sanedge-https.socket"
  flash --host pi@board
  installed
}

# taken ADDRESS:PORT(hex) PID COMM: a listener in the board's /proc
taken() {
  mkdir -p "$board/proc/net" "$board/proc/$2/fd"
  printf '  sl  local_address rem_address   st\n   0: %s 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n' "$1" >"$board/proc/net/tcp"
  ln -sf 'socket:[4711]' "$board/proc/$2/fd/6"
  echo "$3" >"$board/proc/$2/comm"
}
@test "a port that another program has is named with the program, before anything is stopped" {
  taken 00000000:01BB 812 nginx
  before
  flash --host pi@board
  not_installed board-port "sanedge-https.socket cannot listen on port 443" "process 812 nginx" "stop nginx"
  # A concrete address of theirs is in the way of all addresses of ours, and of the same one, not of another.
  taken 0700000A:01BB 812 nginx
  before
  flash --host pi@board
  not_installed board-port
  rm sanedge.toml && config rpi4 'https = ["10.0.0.7:443"]' >sanedge.toml
  before
  flash --host pi@board
  not_installed board-port
  rm sanedge.toml && config rpi4 'https = ["10.0.0.8:443"]' >sanedge.toml
  flash --host pi@board
  installed
}

@test "what has the port may be systemd for another unit, or the old edge" {
  taken 00000000:01BB 1 systemd
  stand_in systemctl 'case "$*" in
    --version) echo "systemd 252 (252)" ;;
    list-sockets*) printf "[::]:8443 other.socket other.service\n[::]:443 %s x.service\n" "$(cat "$STATE/unit")" ;;
    is-active*) [ -e "$STATE/active" ] ;;
    *) echo "$*" >>"$STATE/asked" ;; esac'
  echo cockpit.socket >"$state/unit"
  touch "$state/active"
  before
  flash --host pi@board
  not_installed board-port "process 1 systemd for cockpit.socket" "stop systemd for cockpit.socket"
  echo sanedge-https.socket >"$state/unit"
  flash --host pi@board
  installed
  rm -r "$state/active" "$board/proc/1"
  taken 00000000:01BB 900 sanedge
  stand_in systemctl 'case "$*" in --version) echo "systemd 252 (252)" ;; restart* | start*) touch "$STATE/active" ;; is-active*) [ -e "$STATE/active" ] ;; esac'
  flash --host pi@board
  installed
}

@test "one installation at a time" {
  before
  (flock -n 9 && touch "$state/held" && sleep 20) 9<"$board/etc/systemd/system" 3>&- &
  local holder=$!
  for _ in {1..100}; do [ ! -e "$state/held" ] || break; sleep 0.1; done
  flash --host pi@board
  not_installed board-busy
  kill "$holder"
  wait "$holder" || true
  # The child of the subshell holds the lock as long as it lives.
  for _ in {1..250}; do flock -n "$board/etc/systemd/system" true && break; sleep 0.1; done
  flash --host pi@board
  installed
}

@test "the half runs in a unit of its own, which undoes what was killed" {
  flash --host pi@board
  installed
  snapshot >before
  mkdir -p "$board/run/systemd/system"
  # As systemd does it: when the command has ended, however, it runs ExecStopPost=.
  stand_in systemd-run 'for word in "$@"; do case $word in --property=ExecStopPost=*) after=${word#*=-} after=${after#*=-} ;; esac; done
    echo "$*" >>"$STATE/asked"
    while [ "$1" != /bin/sh ]; do shift; done; setsid -w "$@"; status=$?; eval "$after"; exit "$status"'
  stand_in systemd-tmpfiles 'kill -KILL -- "-$(ps -o pgid= -p $PPID | tr -d " ")"'
  rm sanedge.toml && config rpi4 'https = ["[::]:8443"]' >sanedge.toml
  flash --host pi@board
  [ "$status" -eq 1 ] || { echo "$output"; false; }
  says "an interrupted installation is rolled back"
  snapshot | diff before -
  [ -e "$state/active" ]
  grep -q -- '--unit=sanedge-install' "$state/asked"
  nothing_in_tmp
}

@test "an undo that cannot put a file back says where the old one is, and keeps it" {
  flash --host pi@board
  installed
  rm sanedge.toml && config rpi4 'https = ["[::]:8443"]' >sanedge.toml
  touch "$state/broken"
  stand_in mv 'case "$*" in *.sanedge.bundle.sanedge-old*) echo "mv: No space left on device" >&2; exit 1 ;; esac; exec "$real" "$@"'
  flash --host pi@board
  [ "$status" -eq 1 ]
  says "the rollback is not complete" "/etc/sanedge/sanedge.bundle  was  $board/etc/sanedge/.sanedge.bundle.sanedge-old"
  [ -f "$board/etc/sanedge/.sanedge.bundle.sanedge-old" ]
  [ -L "$board/etc/systemd/system/sysinit.target.wants/sanedge-recover.service" ]
  # The next boot does it.
  rm "$bin/mv"
  hash -r
  SANEDGE_ROOT=$board sh "$board/var/lib/sanedge-install/install" undo boot
  [ -z "$(find "$board" -name '.*sanedge-*' -o -name sanedge-recover.service -o -name sanedge-install)" ]
  rm sanedge.toml && config rpi4 >sanedge.toml
  snapshot >before
  flash --host pi@board
  snapshot | diff before -
}

# --- the kernel's parameters -------------------------------------------------------------------------------------------

controllers() { mkdir -p "$board/sys/fs/cgroup"; echo "$*" >"$board/sys/fs/cgroup/cgroup.controllers"; }

@test "cmdline.txt of a running board: the right file, the first line, the last word" {
  controllers cpu io pids
  local folder
  for folder in boot/firmware boot; do
    rm -rf "${board:?}/boot"
    mkdir -p "$board/boot/firmware"
    printf 'console=tty1 root=x\nsecond line\n' >"$board/$folder/cmdline.txt"
    [ "$folder" = boot ] || printf 'DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved\n' >"$board/boot/cmdline.txt"
    flash --host pi@board
    installed
    says "cgroup_enable=memory is in /$folder/cmdline.txt now"
    [ "$(head -n 1 "$board/$folder/cmdline.txt")" = "console=tty1 root=x cgroup_enable=memory" ]
    [ "$folder" = boot ] || grep -q 'DO NOT EDIT' "$board/boot/cmdline.txt"
    [ -z "$(find "$board/boot" -name '*sanedge*')" ]
  done
  # line → what stands at its end afterwards
  local line wanted
  while IFS='|' read -r line wanted; do
    printf '%b\n' "$line" >"$board/boot/cmdline.txt"
    flash --host pi@board
    installed
    [ "$(head -n 1 "$board/boot/cmdline.txt")" = "$wanted" ] || { cat "$board/boot/cmdline.txt"; false; }
  done <<'TABLE'
a cgroup_enable=memory|a cgroup_enable=memory
a cgroup_enable=memory b cgroup_disable=memory|a cgroup_enable=memory b cgroup_disable=memory cgroup_enable=memory
a cgroup_disable=memory cgroup_enable=memory|a cgroup_disable=memory cgroup_enable=memory
a cgroup_enable=memoryless|a cgroup_enable=memoryless cgroup_enable=memory
a nocgroup_enable=memory|a nocgroup_enable=memory cgroup_enable=memory
a cgroup_enable=cpuset,memory|a cgroup_enable=cpuset,memory
a\r|a cgroup_enable=memory
a\ncgroup_enable=memory|a cgroup_enable=memory
TABLE
}

@test "cmdline.txt of a running board: os_prefix, include, cmdline= and links are followed" {
  controllers cpu
  mkdir -p "$board/boot/firmware/current"
  echo old >"$board/boot/firmware/cmdline.txt"
  echo new >"$board/boot/firmware/current/cmdline.txt"
  echo other >"$board/boot/firmware/other.txt"
  printf 'include more.txt\n' >"$board/boot/firmware/config.txt"
  printf '[pi3]\nos_prefix=no/\n[pi4]\nos_prefix=current/\r\n' >"$board/boot/firmware/more.txt"
  flash --host pi@board
  installed
  says "is in /boot/firmware/current/cmdline.txt now"
  [ "$(cat "$board/boot/firmware/cmdline.txt")" = old ]
  printf '[none]\ncmdline=no.txt\n[all]\ncmdline=other.txt\n' >"$board/boot/firmware/config.txt"
  flash --host pi@board
  says "is in /boot/firmware/other.txt now"
  # A link stays one.
  printf '' >"$board/boot/firmware/config.txt"
  mv "$board/boot/firmware/cmdline.txt" "$board/boot/firmware/real.txt"
  ln -s real.txt "$board/boot/firmware/cmdline.txt"
  flash --host pi@board
  installed
  [ -L "$board/boot/firmware/cmdline.txt" ]
  [ "$(cat "$board/boot/firmware/real.txt")" = "old cgroup_enable=memory" ]
}

@test "cmdline.txt of a running board: none, one that cannot be written, and a kernel that needs none" {
  controllers cpu
  mkdir -p "$board/boot"
  printf 'DO NOT EDIT THIS FILE\n' >"$board/boot/cmdline.txt"
  flash --host pi@board
  installed
  says "MemoryMax= has no effect here" "no cmdline.txt"
  grep -qx 'DO NOT EDIT THIS FILE' "$board/boot/cmdline.txt"
  echo words >"$board/boot/cmdline.txt"
  stand_in sync 'case "$*" in *cmdline.txt*) exit 1 ;; esac; exec "$real" "$@"'
  flash --host pi@board
  installed
  says "could not be written"
  [ "$(cat "$board/boot/cmdline.txt")" = words ]
  [ -z "$(find "$board/boot" -name '*sanedge*')" ]
  controllers cpu memory pids
  flash --host pi@board
  installed
  [[ $output != *MemoryMax* ]]
}

# --- the next boot -------------------------------------------------------------------------------------------------------

# What `systemctl reboot` leads to: another boot_id, and the edge as the test has it.
reboots() {
  mkdir -p "$board/proc/sys/kernel/random"
  echo boot-1 >"$board/proc/sys/kernel/random/boot_id"
  sed -i '2a [ "$1" != reboot ] || { echo boot-2 >'"$board"'/proc/sys/kernel/random/boot_id; '"$1"' ; exit 255; }' "$bin/systemctl"
  cp "$bin/edge" "$bin/sanedge"
}
@test "after --reboot the edge is asked again" {
  reboots :
  flash --host pi@board --reboot
  installed
  says "the edge serves after the reboot"
}
@test "an edge that is dead after the reboot" {
  reboots 'touch $STATE/dumb'
  stand_in sleep 'exec "$real" 0.1'
  flash --host pi@board --reboot
  [ "$status" -eq 1 ]
  says "[host-dead]" "does not serve after the reboot"
}
@test "a board that does not come back, and one that is there all the time without a new boot" {
  reboots 'touch "$STATE/off"'
  sed -i '2a [ ! -e "$STATE/off" ] || { echo "ssh: connect to host board port 22: No route to host" >\&2; exit 255; }' "$bin/ssh"
  SANEDGE_REBOOT_SECONDS=3 flash --host pi@board --reboot
  [ "$status" -eq 1 ]
  says "[host-gone]" "did not come back within 3 s" "No route to host"
  rm "$state/off"
  sed -i '2s/.*/[ "$1" != reboot ] || exit 0/' "$bin/systemctl"
  SANEDGE_REBOOT_SECONDS=3 flash --host pi@board --reboot
  [ "$status" -eq 1 ]
  says "[host-gone]"
}
@test "--reboot is for a running board" {
  flash --image image.img --out card.img --reboot
  refused 2 "--reboot needs --host"
}

# --- certificates that the board obtains itself ----------------------------------------------------------------------

@test "the certificates that a board has obtained are put to use before the doctor looks" {
  rm sanedge.toml
  printf 'board = "rpi4"\n[listen]\nhttps = ["[::]:443"]\nhttp = ["[::]:80"]\n[acme]\nterms = "agreed"\n' >sanedge.toml
  printf '[[site]]\nhosts = ["recre.store"]\nupstream = ["127.0.0.1:3002"]\n' >>sanedge.toml
  flash --host pi@board
  installed
  cmp sanedge.toml "$board/etc/sanedge/sanedge.toml"
  [ "$(grep -c 'start sanedge-deploy.service' "$state/asked")" -eq 0 ]
  mkdir -p "$board/var/lib/sanedge-acme/certificates"
  touch "$board/var/lib/sanedge-acme/certificates/recre.store.pem"
  flash --host pi@board
  installed
  grep -qx 'start sanedge-deploy.service' "$state/asked"
}
