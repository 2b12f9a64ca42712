# shellcheck shell=bash disable=SC2016,SC2034,SC2154,SC2059,SC2100  # variables that bats and the tests set or use; printf makes bytes
#
# Small images in the Raspberry Pi's layout, small programs, and questions about what flash.sh made of them.

repository=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
flash=$repository/flash.sh
fat_at=$((1024 * 1024)) ext4_at=$((9 * 1024 * 1024)) image_bytes=$((33 * 1024 * 1024))
PATH=$PATH:/usr/sbin:/sbin

# The sanedge of this machine; SANEDGE names another.
host_sanedge() { echo "${SANEDGE:-${CARGO_TARGET_DIR:-$repository/target}/debug/sanedge}"; }

# Says that something was not tested; with SANEDGE_REQUIRE_ALL=1 that is a failure.
skip_loudly() {
  echo "# SKIPPED $BATS_TEST_DESCRIPTION: $1" >&3
  [ "${SANEDGE_REQUIRE_ALL:-}" != 1 ] || return 1
  skip "$1"
}

# elf MACHINE FILE: no program, but a header that says for which processor it would be
elf() { { printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0'"$(printf '\\x%02x' "$1")"'\0'; head -c 20000 /dev/zero | tr '\0' 'x'; } >"$2"; }
aarch64=183 arm=40 x86_64=62
# elf_arm ARCHITECTURE FILE: the same for 32 bits, with a section that says for which architecture (Tag_CPU_arch: 6 is v6, 7 v6KZ,
# 8 v6T2, 10 v7, 14 v8); nothing: without
elf_arm() {
  local attributes zeros='\0\0\0\0' kind='\x03\0\0\x70'
  attributes='A\x11\0\0\0aeabi\0\x01\x07\0\0\0\x06\x'$(printf %02x "${1:-0}")
  [ -n "$1" ] || kind='\x01\0\0\0'
  {
    # The header: 52 bytes, then at 52 the attributes, padded to 20, then at 72 three sections of 40 bytes.
    printf '\177ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\x28\0\1\0\0\0'"$zeros$zeros"'\x48\0\0\0\0\2\0\5\x34\0\0\0\0\0\x28\0\3\0\2\0'
    printf "$attributes"'\0\0'
    printf "$zeros$zeros$zeros$zeros$zeros$zeros$zeros$zeros$zeros$zeros"
    printf '\1\0\0\0'"$kind$zeros$zeros"'\x34\0\0\0\x12\0\0\0'"$zeros$zeros"'\1\0\0\0'"$zeros"
    printf '\1\0\0\0\3\0\0\0'"$zeros$zeros"'\xc0\0\0\0\x11\0\0\0'"$zeros$zeros"'\1\0\0\0'"$zeros"
    printf '\0.ARM.attributes\0'
    head -c 20000 /dev/zero | tr '\0' 'x'
  } >"$2"
}

# Once a file of tests: keys, a sanedge.toml, an image and programs.
make_all() {
  cd "$BATS_FILE_TMPDIR" || return
  echo "$BATS_TEST_FILENAME" >>"$BATS_RUN_TMPDIR/files"
  [ -x "$(host_sanedge)" ] || { echo "no $(host_sanedge): cargo build, or SANEDGE=…" >&2; return 1; }
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out chain.pem -days 90 \
    -subj /CN=recre.store -addext subjectAltName=DNS:recre.store,DNS:socket.recre.store \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
    -addext extendedKeyUsage=serverAuth 2>/dev/null
  config rpi4 >sanedge.toml
  elf "$aarch64" program
  elf_arm 7 program.arm
  ssh-keygen -q -t ed25519 -N '' -C tester -f id
  make_image image.img "$aarch64"
}

# config BOARD [LISTEN LINES]
config() {
  local listen=${2:-'https = ["[::]:443"]'}
  cat <<TOML
board = "$1"
[listen]
$listen
[[certificate]]
chain = "chain.pem"
key   = "key.pem"
[[site]]
hosts    = ["recre.store"]
upstream = ["127.0.0.1:3002"]
TOML
}

# make_image FILE MACHINE: two partitions, and of a system what flash.sh looks at
make_image() {
  local tree=tree.$1 triplet=aarch64-linux-gnu
  [ "$2" = "$aarch64" ] || triplet=arm-linux-gnueabihf
  mkdir -p "$tree"/{etc/systemd/system,home/pi,usr/bin,usr/lib/systemd/system,"usr/lib/$triplet/systemd",var/lib/systemd/rfkill}
  elf "$2" "$tree/usr/bin/dpkg"
  : >"$tree/usr/lib/$triplet/systemd/libsystemd-shared-252.so"
  : >"$tree/usr/lib/systemd/system/ssh.service"
  echo 1 >"$tree/var/lib/systemd/rfkill/platform-fe300000.mmcnr:wlan"
  printf 'root:x:0:0:root:/root:/bin/bash\nsystemd-network:x:998:998::/:/usr/sbin/nologin\npi:x:1000:1000:,,,:/home/pi:/bin/bash\n' >"$tree/etc/passwd"
  printf 'root:x:0:\nshadow:x:42:\nrender:x:999:\nsystemd-network:x:998:\npi:x:1000:' >"$tree/etc/group" # no line end
  printf 'root:*:19000:0:99999:7:::\npi:!:19000:0:99999:7:::\n' >"$tree/etc/shadow"
  printf 'root:*::\n' >"$tree/etc/gshadow"
  chmod 640 "$tree/etc/shadow" "$tree/etc/gshadow"
  echo raspberrypi >"$tree/etc/hostname"
  printf '127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n' >"$tree/etc/hosts"
  # Enough files that the folder has a tree of hashes, as /usr/bin has.
  for ((i = 0; i < 300; i++)); do : >"$tree/usr/bin/a-program-with-a-long-name-$i"; done

  truncate -s "$image_bytes" "$1"
  # MBR: FAT32 at 1 MiB, 8 MiB long; Linux at 9 MiB, the rest.
  entry() { printf '\\x00\\x00\\x00\\x00\\x%02x\\x00\\x00\\x00' "$1"; le32 $(($2 / 512)); le32 $(($3 / 512)); }
  le32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
  # shellcheck disable=SC2059
  printf "$(entry 12 $fat_at $((8 * 1024 * 1024)))$(entry 131 $ext4_at $((image_bytes - ext4_at)))" |
    dd of="$1" bs=1 seek=446 conv=notrunc status=none
  printf '\x55\xaa' | dd of="$1" bs=1 seek=510 conv=notrunc status=none
  mformat -i "$1@@$fat_at" -T $((8 * 2048)) -h 64 -s 32 ::
  printf 'console=serial0,115200 root=PARTUUID=1-02 rootwait quiet\n' >cmdline.txt
  mcopy -i "$1@@$fat_at" cmdline.txt ::
  mkfs.ext4 -q -O has_journal -E "offset=$ext4_at" -d "$tree" "$1" $(((image_bytes - ext4_at) / 1024))k
  debugfs -w -R 'sif /etc/shadow gid 42' "$1?offset=$ext4_at" 2>/dev/null
}

# The least that flash.sh wants; further options follow.
flash() {
  run "$flash" --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --binary program "$@"
  note_codes
}
# For table.bats: which refusals were seen.
note_codes() { sed -nE 's/^error .*\[([a-z0-9-]+)\]\r?$/\1/p' <<<"$output" >>"$BATS_RUN_TMPDIR/codes"; }

# inside IMAGE PATH: a file of the root partition
inside() { debugfs -R "cat $2" "$1?offset=$ext4_at" 2>/dev/null; }
# owner IMAGE PATH: MODE UID GID
owner() {
  debugfs -R "stat $2" "$1?offset=$ext4_at" 2>/dev/null |
    sed -n 's/.*Mode:  *\([0-7]*\).*/\1/p; s/^User: *\([0-9]*\) *Group: *\([0-9]*\).*/\1 \2/p' | tr '\n' ' '
}
target_of() { debugfs -R "stat $2" "$1?offset=$ext4_at" 2>/dev/null | sed -n 's/^Fast link dest: "\(.*\)"/\1/p'; }
is_in() { debugfs -R "stat $2" "$1?offset=$ext4_at" 2>/dev/null | grep -q '^Inode:'; }
is_not_in() { ! is_in "$@"; }
cmdline() { mtype -i "$1@@$fat_at" ::cmdline.txt; }
is_clean() { e2fsck -fn "$1?offset=$ext4_at"; }

# says TEXT…: the run printed each of these
says() {
  local text
  note_codes
  for text in "$@"; do
    [[ $output == *"$text"* ]] || { printf 'expected: %s\nfound: %s\n' "$text" "$output"; return 1; }
  done
}
# refused CODE TEXT…: the run ended with CODE, said TEXT, and left nothing behind
refused() {
  note_codes
  [ "$status" -eq "$1" ] || { printf 'expected exit code %s, found %s: %s\n' "$1" "$status" "$output"; return 1; }
  says "${@:2}" || return
  nothing_left
}
# Neither an image nor a part of one, no folder of work, no loop device of ours.
nothing_left() {
  [ ! -e card.img ] || { echo "card.img was written"; return 1; }
  only_the_image_is_left
}
only_the_image_is_left() {
  local left
  left=$(find . "$TMPDIR" -name '.card.img*' -o -name 'sanedge-flash.*' -o -name 'sanedge-card.*')
  [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

# gone PID: within ten seconds; what is left of it is ended here
gone() {
  for _ in {1..100}; do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$1"
  echo "process $1 was still running"
  return 1
}

# with TOOL SCRIPT: a stand-in for a tool, first on PATH for this test; $real is the true one
stand_in() {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  rm -f "$BATS_TEST_TMPDIR/bin/$1" # one that was there is not the true one
  hash -r
  printf '#!/bin/bash\nreal=%s\n%s\n' "$(command -v "$1" || echo none)" "$2" >"$BATS_TEST_TMPDIR/bin/$1"
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# each test in a folder of its own, with the shared files by link
enter() {
  mkdir -p "$BATS_TEST_TMPDIR/here" "$BATS_TEST_TMPDIR/tmp"
  cd "$BATS_TEST_TMPDIR/here" || return
  export TMPDIR=$BATS_TEST_TMPDIR/tmp
  unset XDG_RUNTIME_DIR
  ln -s "$BATS_FILE_TMPDIR"/{chain.pem,key.pem,sanedge.toml,image.img,program,program.arm,id,id.pub} .
}

# loop FILE: a loop device on it, in $loop; gone after the test
loop() {
  [ "$(id -u)" -eq 0 ] || { skip_loudly "loop devices want root"; return; }
  loop=$(losetup --find --show "$1" 2>/dev/null) || { skip_loudly "no loop devices here"; return; }
  echo "$loop" >>"$BATS_TEST_TMPDIR/loops"
}
free_loops() {
  [ ! -f "$BATS_TEST_TMPDIR/loops" ] || while read -r loop; do losetup -d "$loop"; done <"$BATS_TEST_TMPDIR/loops"
}

# Each test of a running board: a folder stands for it, and stand-ins for ssh and for what would change the system.
enter_board() {
  enter
  board=$BATS_TEST_TMPDIR/board state=$BATS_TEST_TMPDIR/state bin=$BATS_TEST_TMPDIR/bin
  mkdir -p "$board/etc/systemd/system" "$state"
  export STATE=$state
  stand_in uname 'echo "$(cat '"$state"'/machine)"'
  echo aarch64 >"$state/machine"
  # ssh OPTIONS -- HOST COMMAND
  stand_in ssh 'while [ "$1" != -- ]; do shift; done; shift 2
    case "$*" in
    "") exit 0 ;;
    *) SANEDGE_ROOT='"$board"' bash -c "$*" ;;
    esac || exit
    # The program is for another processor: its stand-in takes its place.
    case "$*" in tar*) cp '"$bin"'/edge "$(tail -n 1 '"$state"'/folders)/root/usr/bin/sanedge" ;; esac'
  stand_in edge 'case "$1" in
    --version) echo sanedge 0 ;;
    show) exec '"$(host_sanedge)"' "$@" ;;
    status) [ ! -e '"$state"'/dumb ] && '"$(host_sanedge)"' show --json '"$board"'/etc/sanedge/sanedge.bundle |
      sed -n "s/^  \"digest\": \"\(.\{16\}\).*/{\"bundle\":\"\1\"}/p" ;;
    doctor) [ -e '"$state"'/doctor ] || exit 2
      [ "$2" = --help ] || { echo "the doctor looked"; grep -q . '"$state"'/doctor && [ ! -e '"$board"'/new ] ; } ;;
    esac'
  stand_in systemctl 'echo "$*" >>'"$state"'/asked
    case "$*" in
    --version) echo "systemd 252 (252)" ;;
    is-active*) [ -e '"$state"'/active ] ;;
    restart*|start\ sanedge.service*) if [ -e '"$state"'/broken ]; then rm -f '"$state"'/active '"$state"'/broken; exit 1; fi; touch '"$state"'/active ;;
    stop*) rm -f '"$state"'/active ;;
    esac'
  for tool in chown systemd-sysusers systemd-tmpfiles; do stand_in "$tool" 'echo "'"$tool"' $*" >>'"$state"'/asked'; done
  stand_in journalctl 'echo "the journal"'
  # Who logs in is nobody special, unless a test says so.
  echo 1000 >"$state/uid"
  stand_in id 'if [ "$*" = -u ]; then cat '"$state"'/uid; else exec "$real" "$@"; fi'
  stand_in sudo 'echo "sudo $*" >>'"$state"'/asked; [ "$1" != -n ] || shift; exec "$@"'
  # The folders that it makes in /tmp, which is the board's as well as this machine's.
  stand_in mktemp 'made=$("$real" "$@") || exit; echo "$made"
    case $made in /tmp/sanedge.????????) echo "$made" >>'"$state"'/folders ;; esac'
}
leave_board() { if [ -f "$state/folders" ]; then xargs -r rm -rf <"$state/folders"; fi; }
# A folder was made in the board's /tmp, and none is left.
nothing_in_tmp() {
  [ -s "$state/folders" ] || { echo "no folder was made"; return 1; }
  local folder
  while read -r folder; do [ ! -e "$folder" ] || { echo "left: $(find "$folder")"; return 1; }; done <"$state/folders"
}
# What is below $board, by name, mode and contents.
snapshot() { (cd "$board" && find . -type f -printf '%p %m ' -exec sha256sum {} \; && find . -type l -printf '%p %l\n') | sort; }
