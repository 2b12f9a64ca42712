#!/usr/bin/env bash
# shellcheck disable=SC2015  # `this && that || refuse …` is meant so: refuse never comes back
set -euo pipefail
export LC_ALL=C
umask 077 # whatever is made here may hold private keys
PATH=$PATH:/usr/sbin:/sbin

usage() {
  cat <<'TEXT'
Puts the edge on a board: the program, its units (enabled) and a proven bundle.

  ./flash.sh --board rpi4 --config sanedge.toml --image IN.img[.xz|.gz|.zst] --out card.img
  ./flash.sh --board rpi4 --config sanedge.toml --image IN.img.xz --device /dev/sdX
  ./flash.sh --board rpi4 --config sanedge.toml --host pi@raspberrypi.local

  --board NAME         a profile of boards/
  --config FILE        the sanedge.toml to compile; it must name the same board
  --image FILE         a Raspberry Pi OS style image: FAT boot partition, ext4 root
  --out FILE           write the finished image here (0600: it holds private keys)
  --device DEVICE      write it to this card and read it back; erases the card
  --force-device       also where the device does not say that it is removable
  --host [USER@]HOST   install or upgrade a running board over ssh (ssh://user@host:port works too); rolls back where
                       the edge does not become ready there
  --hostname NAME      the board's name                                                     (with --image)
  --ssh-key FILE.pub   may log in as the image's first user; turns sshd on                  (with --image)
  --wifi-country CC    two letters: Wi-Fi stays off until the radio knows its country       (with --image)
  --binary FILE        the program for the board   (default: made by cross/build.sh)
  --sanedge FILE       the sanedge of this machine that compiles the bundle
                       (default: the one on PATH if it has this version, else cargo builds it)
  --dry-run            check everything, print every step, change nothing

An image is made without root, without loop devices and without mounts; only --device needs rights to the device.
Exit code: 0 done, 1 refused or failed, 2 wrong usage.
TEXT
}

# --- words --------------------------------------------------------------------------------------------------------

# step: what a dry run only tells.  doing: what it does as well, because it changes nothing.
step() { printf '%s %s\n' "${dry:-==>}" "$*"; }
doing() { printf '==> %s\n' "$*"; }
note() { printf 'note  %s\n' "$*"; }
detail() { printf '      %s\n' "$*"; }
wrong_usage() {
  printf 'error %s\n      ./flash.sh --help shows how\n' "$1" >&2
  exit 2
}
# refuse WHAT EXPECTED FOUND DO
refuse() {
  printf 'error %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '  expected  %s\n' "$2" >&2
  [ -z "${3:-}" ] || printf '  found     %s\n' "$3" >&2
  [ -z "${4:-}" ] || printf '  do        %s\n' "$4" >&2
  exit 1
}
mebibytes() { echo "$((($1 + 1048575) / 1048576)) MiB"; }
size_of() { stat -Lc %s -- "$1"; }

# need TOOL PACKAGE
need() {
  command -v "$1" >/dev/null ||
    refuse "\`$1\` is missing" "the tool on PATH" "nothing" "apt install $2"
}

# Runs a long command beside us, so that a signal to us is heard at once, and shows how far its descriptor has come, or
# for `-` how long it has taken.
#   watched LABEL BYTES_TOTAL DESCRIPTOR|- COMMAND…      (0 bytes: the total is not known)
# COMMAND is a program or `build`: below another function it would be a child's child, which outlives its parent.
child=''
watched() {
  local label=$1 total=$2 descriptor=$3 from=$SECONDS shown=$SECONDS at
  shift 3
  "$@" <&0 &
  child=$!
  while sleep 0.2 && kill -0 "$child" 2>/dev/null; do
    if [ "$descriptor" = - ]; then
      at="$((SECONDS - from)) s"
    else
      at=$(sed -n 's/^pos:[[:space:]]*//p' "/proc/$child/fdinfo/$descriptor" 2>/dev/null) || continue
      at=$(mebibytes "${at:-0}")$(of_total "$total")
    fi
    if [ -t 2 ]; then
      printf '\r      %s: %s ' "$label" "$at" >&2
    elif [ $((SECONDS - shown)) -ge 10 ]; then # into a file: a line now and then
      shown=$SECONDS
      detail "$label: $at" >&2
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
  local status=0
  wait "$child" || status=$?
  child=''
  return "$status"
}
# What is built here is nobody's secret. In a session of its own, so that all of it can be stopped: it asks nobody anything.
build() { umask 022 && exec setsid "$@"; }
of_total() { [ "$1" -eq 0 ] || printf ' of %s' "$(mebibytes "$1")"; }

# --- what is left when we go ----------------------------------------------------------------------------------------

work='' unfinished='' card_begun='' there=''
leave() {
  local status=$?
  trap - EXIT
  # A build is a group of its own, with compilers in it; anything else is one process.
  [ -z "$child" ] || kill -- "-$child" 2>/dev/null || kill "$child" 2>/dev/null || true
  [ -z "$there" ] || clear_board
  [ -z "$work" ] || [ ! -S "$work/ssh" ] || ssh -o ControlPath="$work/ssh" -O exit -- "$host" 2>/dev/null || true
  [ -z "$unfinished" ] || rm -f -- "$unfinished"
  [ -z "$work" ] || rm -rf -- "$work"
  [ -z "$card_begun" ] ||
    printf 'error %s is not complete and will not boot: write it again\n' "$device" >&2
  exit "$status"
}
# Keys are in that folder. Once `install` there has begun, also where the line broke, it needs it, and takes it away itself.
clear_board() {
  on_board -- "$host" "[ -e $there/begun ] || rm -rf $there" </dev/null ||
    printf 'error private keys may be left on %s: remove %s there\n' "$host" "$there" >&2
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- arguments ------------------------------------------------------------------------------------------------------

here=$(dirname "$(realpath "$0")")
board='' config='' image='' out='' device='' force_device='' host='' dry=''
hostname='' ssh_key='' wifi_country='' binary='' sanedge=''
while [ $# -gt 0 ]; do
  case $1 in
    --force-device) force_device=1; shift; continue ;;
    --dry-run) dry=would; shift; continue ;;
    -h | --help) usage; exit 0 ;;
    --board | --config | --image | --out | --device | --host | --hostname | --ssh-key | --wifi-country | --binary | --sanedge) ;;
    *) wrong_usage "expected an option, found \`$1\`" ;;
  esac
  [ $# -ge 2 ] && [ -n "$2" ] || wrong_usage "\`$1\` wants a value"
  name=${1#--}
  declare "${name//-/_}=$2"
  shift 2
done
[ -n "$board" ] || wrong_usage "--board is missing: the profile that the board has in boards/"
[ -n "$config" ] || wrong_usage "--config is missing: the sanedge.toml to put on the board"
if [ -n "$host" ]; then
  [ -z "$image$out$device$hostname$ssh_key$wifi_country" ] ||
    wrong_usage "--host is for a board that runs: --image, --out, --device, --hostname, --ssh-key and --wifi-country are not for it"
else
  [ -n "$image" ] || wrong_usage "--image or --host is missing: where shall the edge go?"
  [ -n "$out$device" ] || wrong_usage "--out or --device is missing: where shall the image go?"
fi

# --- what can be known before anything is done ----------------------------------------------------------------------

profile() { sed -n "s/^$1 *= *\"\([^\"]*\)\".*/\1/p" "$here/boards/$board.toml"; }

check_board() {
  [[ $board =~ ^[a-z0-9-]+$ ]] && [ -f "$here/boards/$board.toml" ] ||
    refuse "there is no board \`$board\`" "one of $(cd "$here/boards" && echo *.toml | sed 's/\.toml//g')" "" \
      "take the nearest, or generic-aarch64, generic-armv7 or generic-armv6"
  target=$(profile target) budget=$(profile budget)
  case $target in
    aarch64-*) machine=183 triplet=aarch64-linux-gnu ;;
    armv7-*) machine=40 triplet=arm-linux-gnueabihf cores='v7' ;;
    arm-*) machine=40 triplet=arm-linux-gnueabihf cores='v6' ;;
  esac
  word=$(machine_word "$machine")
}

# The machine that an ELF file is for, by its number in the ELF header; nothing if it is none.
elf_machine() {
  [ "$(head -c 4 -- "$1" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || return 0
  od -An -tu2 --endian=little -j 18 -N 2 -- "$1" | tr -d ' \n'
}
# The architecture that a 32-bit ARM program was compiled for, as its build attributes have it (Addenda to the ABI for the Arm
# Architecture, Tag_CPU_arch); nothing if it does not say.
arm_arch() { readelf -A -- "$1" 2>/dev/null | sed -n 's/^ *Tag_CPU_arch: *//p' | head -n 1; }
# runs_on CORES ARCH: whether a core of ARMv6 (v6: the ARM1176 of a Zero) or ARMv7 (v7) has its instructions
runs_on() {
  case $1-$2 in
    v[67]-v[45]* | v[67]-v6 | v[67]-v6K | v[67]-v6KZ | v7-v6T2 | v7-v7) ;;
    *) return 1 ;;
  esac
}
machine_word() {
  case $1 in
    183) echo "64-bit ARM (arm64)" ;;
    40) echo "32-bit ARM (armhf)" ;;
    62) echo "x86-64 (amd64)" ;;
    '') echo "no ELF file" ;;
    *) echo "ELF machine $1" ;;
  esac
}

check_files() {
  [ -f "$config" ] || refuse "no such file: $config" "the sanedge.toml to compile" "" ""
  [ -z "$binary" ] || [ -f "$binary" ] || refuse "no such file: $binary" "the program for the board" "" ""
  [ -z "$sanedge" ] || [ -x "$sanedge" ] || refuse "cannot be run: $sanedge" "the sanedge of this machine" "" ""
  [ -n "$host" ] || [ -f "$image" ] || refuse "no such file: $image" "a Raspberry Pi OS style image" "" ""
  if [ -n "$hostname" ] && ! [[ $hostname =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]]; then
    refuse "this cannot be a host's name" "up to 63 of a-z, 0-9 and -, neither first nor last a -" "$hostname" ""
  fi
  if [ -n "$wifi_country" ] && ! [[ $wifi_country =~ ^[A-Z]{2}$ ]]; then
    refuse "this is no country" "two capital letters of ISO 3166, as in DE" "$wifi_country" ""
  fi
  if [ -n "$ssh_key" ]; then
    [ -f "$ssh_key" ] || refuse "no such file: $ssh_key" "a public key of ssh" "" "ssh-keygen -t ed25519 makes one"
    ! grep -q 'PRIVATE KEY' -- "$ssh_key" ||
      refuse "this is the private half of a key" "its public half" "$ssh_key" "--ssh-key $ssh_key.pub"
    grep -Eq '^(ssh|ecdsa|sk)-[^ ]+ [A-Za-z0-9+/=]+' -- "$ssh_key" ||
      refuse "this is no public key of ssh" "a line as in ~/.ssh/id_ed25519.pub" "$ssh_key" ""
  fi
}

check_tools() {
  [ "$machine" != 40 ] || need readelf binutils
  [ -n "$binary" ] || need setsid util-linux
  if [ -n "$host" ]; then
    need ssh openssh-client
    need tar tar
    return
  fi
  need debugfs e2fsprogs
  need e2fsck e2fsprogs
  need dumpe2fs e2fsprogs
  need mcopy mtools
  case $image in
    *.xz) need xz xz-utils ;;
    *.gz) need gzip gzip ;;
    *.zst) need zstd zstd ;;
  esac
  if [ -n "$device" ]; then
    need lsblk util-linux
    need blockdev util-linux
  fi
}

check_out() {
  [ -n "$out" ] || return 0
  [ ! -L "$out" ] && { [ ! -e "$out" ] || [ -f "$out" ]; } ||
    refuse "$out is not replaced" "a new name, or an older image" "$(stat -c %F -- "$out")" "give another file to --out"
  [ -d "$(dirname -- "$out")" ] || refuse "no such folder: $(dirname -- "$out")" "where the image shall go" "" ""
  [ ! "$out" -ef "$image" ] ||
    refuse "--image and --out are the same file" "the image as it was downloaded, kept as it is" "" "give another file to --out"
}

# Everything that speaks against writing to the device. Looked at again just before it is written.
check_device() {
  [ -n "$device" ] || return 0
  [ -b "$device" ] ||
    refuse "$device is no disk" "a block device, as /dev/sdX or /dev/mmcblk0" \
      "$(stat -Lc %F -- "$device" 2>/dev/null || echo nothing)" "lsblk shows what there is"
  device=$(realpath -- "$device")
  local said type removable hotplug read_only
  said=$(ask_device -d TYPE,RM,HOTPLUG,RO)
  read -r type removable hotplug read_only <<<"$said" || true
  case $type in
    disk | loop) ;;
    *) refuse "$device is not a whole disk" "the device of the card itself, without a partition's number" "$type" \
      "lsblk shows what there is" ;;
  esac
  local mounted system=''
  # All of them since util-linux 2.37; before that one for each partition.
  mounted=$(lsblk -nro MOUNTPOINTS -- "$device" 2>/dev/null) || mounted=$(ask_device MOUNTPOINT)
  mounted=$(sed '/./!d' <<<"${mounted//\\x0a/$'\n'}" | tr '\n' ' ')
  for point in $mounted; do
    case $point in
      / | /boot | /boot/* | /usr | /usr/* | /var | /var/* | /home | '[SWAP]') system=$point ;;
    esac
  done
  if [ -n "$system" ]; then
    refuse "$device is the disk of this system" "a card" "$system is on it" "lsblk shows which device the card is"
  fi
  if [ -n "$mounted" ]; then
    refuse "$device is mounted" "a card that nothing uses" "$mounted" "umount ${mounted% }"
  fi
  said=$(ask_device TYPE,NAME)
  if grep -Evq '^(disk|part|loop) ' <<<"$said"; then
    refuse "$device is in use" "a card that nothing uses" "$(tail -n +2 <<<"$said" | tr '\n' ' ')" \
      "close the volume that stands on it"
  fi
  [ "$read_only" = 0 ] ||
    refuse "$device is read-only" "a card that can be written" "" "move the switch on the card's side"
  if [ "$removable$hotplug" = 00 ] && [ -z "$force_device" ]; then
    refuse "$device does not say that it is removable" "a card or a USB stick" "$(describe_device)" \
      "look again; if it is the right one, add --force-device"
  fi
  [ -n "$dry" ] || [ -w "$device" ] || refuse "$device cannot be written by $(id -un)" "rights to write it" "" "sudo ./flash.sh …"
}
# ask_device [-d] COLUMNS: what nobody can say of a device is no reason to write to it
ask_device() {
  lsblk -nr "${@:1:$#-1}" -o "${!#}" -- "$device" ||
    refuse "it is not known how $device is used" "what \`lsblk -o ${!#}\` says of it" "lsblk failed, as above" "apt install util-linux"
}
describe_device() { lsblk -dnro VENDOR,MODEL,SIZE,TRAN -- "$device" | sed 's/\\x20/ /g; s/  */ /g; s/^ //'; }

device_holds() {
  local room wanted=$1
  room=$(ask_device -bd SIZE)
  [ "$room" -ge "$wanted" ] ||
    refuse "$device is too small" "$(mebibytes "$wanted") for the image" "$(mebibytes "$room")" "take a larger card"
}

# --- the two programs and the bundle --------------------------------------------------------------------------------

version() { sed -n 's/^version *= *"\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1; }

find_sanedge() {
  [ -z "$sanedge" ] || return 0
  if [ "$(sanedge --version 2>/dev/null)" = "sanedge $(version)" ]; then
    sanedge=sanedge
    return
  fi
  command -v cargo >/dev/null ||
    refuse "there is no sanedge $(version) on this machine to compile the bundle" "one on PATH, or cargo to build it" "" \
      "cargo install --path . --locked, or give --sanedge FILE"
  doing "build the sanedge of this machine: cargo build --release"
  watched cargo 0 - build cargo build --quiet --locked --release --manifest-path "$here/Cargo.toml" --bin sanedge
  sanedge=$(cargo metadata --format-version 1 --no-deps --locked --manifest-path "$here/Cargo.toml" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/sanedge
}

compile_bundle() {
  doing "compile and prove $config"
  local said
  if ! said=$("$sanedge" bundle "$config" -o "$work/sanedge.bundle" 2>&1); then
    printf '%s\n' "$said" >&2
    refuse "the bundle does not prove; nothing was written" "certificates, hosts and upstreams that fit together" "" \
      "do what stands above"
  fi
  printf '%s\n' "$said" | grep -v 'sanedge.bundle' | sed 's/^/      /'
  "$sanedge" show --json "$work/sanedge.bundle" >"$work/show.json"
  local named
  named=$(sed -n 's/^  "board": "\(.*\)",$/\1/p' "$work/show.json")
  [ "$named" = "$board" ] ||
    refuse "the bundle is for another board, and its limits are" "board = \"$board\" in $config, as --board says" \
      "board = \"$named\"" "change one of the two"
}
# Values of the listeners, one a line, from what `sanedge show --json` prints.
listener() {
  sed -n '/^  "listen": {$/,/^  }/p' "$work/show.json" | sed -n "/^    \"$1\": \[\$/,/^    \]/p" |
    sed -n 's/^      "\(.*\)",\{0,1\}$/\1/p'
}
# Where sanedge.toml says nothing it is the usual one; a TCP address is the program's own business.
admin_socket() {
  sed -n 's/^    "admin": "unix:\(.*\)",\{0,1\}$/\1/p; s|^    "admin": null,\{0,1\}$|/run/sanedge/admin.sock|p' "$work/show.json"
}
drain_timeout_ms() { sed -n 's/^  "drain_timeout_ms": \([0-9]*\),\{0,1\}$/\1/p' "$work/show.json"; }

find_binary() {
  if [ -z "$binary" ]; then
    [ -x "$here/cross/build.sh" ] ||
      refuse "there is no program for $board" "cross/build.sh, or --binary FILE" "" "give --binary FILE"
    step "build the program for $board: cross/build.sh $board"
    if [ -n "$dry" ]; then binary=/dev/null && return; fi
    watched cross/build.sh 0 - build "$here/cross/build.sh" "$board"
    binary=${CARGO_TARGET_DIR:-$here/target}/boards/$board/sanedge
    [ -f "$binary" ] || refuse "cross/build.sh left no program for $board" "$binary" "" "give --binary FILE"
  fi
  local found
  found=$(elf_machine "$binary")
  [ "$found" = "$machine" ] ||
    refuse "$binary is not for $board" "a program for $word" "$(machine_word "$found")" \
      "cross/build.sh $board makes the right one"
  [ "$machine" = 40 ] || return 0
  found=$(arm_arch "$binary")
  runs_on "$cores" "$found" ||
    refuse "$binary is not for $board, whose processor would stop at its first foreign instruction" "a program for ARM$cores" \
      "${found:+one for ARM}${found:-no build attributes that tell (readelf -A)}" "cross/build.sh $board makes the right one"
}

# --- what goes onto the board: one list, for images and for running boards ------------------------------------------
#
# $work/root holds the files by their place on the board, $work/plan what each shall be, in this order:
#   dir|file MODE OWNER GROUP PATH      link TARGET PATH      gone PATH

plan() { printf '%s\n' "$*" >>"$work/plan"; }
dir() { plan dir "$@"; }
# file MODE OWNER GROUP PATH <contents
file() {
  mkdir -p "$work/root$(dirname "$4")"
  cat >"$work/root$4"
  plan file "$@"
}

units=/usr/lib/systemd/system settings=/etc/systemd/system

plan_edge() {
  : >"$work/plan"
  file 0755 root root /usr/bin/sanedge <"$binary"
  file 0644 root root /usr/lib/sysusers.d/sanedge.conf <"$here/systemd/sysusers.conf"
  file 0644 root root /usr/lib/tmpfiles.d/sanedge.conf <"$here/systemd/tmpfiles.conf"
  local unit
  for unit in sanedge.service sanedge-https.socket sanedge-http.socket sanedge-admin.socket; do
    file 0644 root root "$units/$unit" <"$here/systemd/$unit"
  done
  dir 0750 root sanedge /etc/sanedge
  file 0640 root sanedge /etc/sanedge/sanedge.bundle <"$work/sanedge.bundle"
  dir 0755 root root "$settings/sanedge.service.d"
  board_settings | file 0644 root root "$settings/sanedge.service.d/50-board.conf"
  [ "$systemd_version" -lt 254 ] || file 0644 root root "$units/sanedge.service.d/50-backoff.conf" <"$here/systemd/50-backoff.conf"
  enable sanedge.service
  socket https "$(listener https)"
  socket http "$(listener http)"
  socket admin "$(admin_socket)"
}

# The board's budget as a limit that the kernel keeps, and time enough to stop.
board_settings() {
  local drain stop
  drain=$(drain_timeout_ms)
  stop=$((${drain:-0} / 1000 + 15))
  printf '# Written by flash.sh for %s.\n[Service]\nMemoryMax=%s\n' "$board" "${budget%iB}"
  [ "$stop" -le 75 ] || printf '# drain_timeout of the bundle, and some.\nTimeoutStopSec=%ss\n' "$stop"
}

# A socket unit, listening where the bundle says; none where it says nothing.
socket() {
  local unit=sanedge-$1.socket addresses=$2 folder=$settings/sanedge-$1.socket.d
  if [ -z "$addresses" ]; then
    enable "$unit" gone
    plan gone "$folder/50-bundle.conf"
    return
  fi
  enable "$unit"
  if [ "$addresses" = "$(usual_address "$1")" ]; then
    plan gone "$folder/50-bundle.conf"
    return
  fi
  dir 0755 root root "$folder"
  {
    printf '# Written by flash.sh: what sanedge.toml says.\n[Socket]\nListenStream=\n'
    printf '%s\n' "$addresses" | sed 's/^/ListenStream=/'
  } | file 0644 root root "$folder/50-bundle.conf"
}
usual_address() {
  case $1 in
    https) echo '[::]:443' ;;
    http) echo '[::]:80' ;;
    admin) echo /run/sanedge/admin.sock ;;
  esac
}

# What `systemctl enable` would do, from the unit's [Install]; with `gone` the reverse.
enable() {
  local wanted
  while read -r wanted; do
    if [ "${2:-}" = gone ]; then
      plan gone "$settings/$wanted.wants/$1"
    else
      dir 0755 root root "$settings/$wanted.wants"
      plan link "$units/$1" "$settings/$wanted.wants/$1"
    fi
  done < <(sed -n 's/^WantedBy=//p' "$here/systemd/$1")
}

# --- the image ------------------------------------------------------------------------------------------------------

# Everything is done to a file of our own beside --out, which gets its name when it is whole.
unpack() {
  local place
  if [ -n "$out" ]; then place=$(dirname -- "$out")/.$(basename -- "$out").XXXXXX
  else place=${TMPDIR:-/var/tmp}/sanedge-card.XXXXXX; fi
  step "unpack $image ($(mebibytes "$(size_of "$image")"))"
  [ -z "$dry" ] || return 0
  unfinished=$(mktemp -- "$place")
  local unpacked=0
  case $image in
    *.xz) watched unpacking "$(xz --robot --list -- "$image" | awk '$1 == "totals" { print $5 }')" 1 xz -dc -- "$image" >"$unfinished" ;;
    *.gz) watched unpacking 0 1 gzip -dc -- "$image" >"$unfinished" ;;
    *.zst) watched unpacking 0 1 zstd -qdc --sparse -- "$image" >"$unfinished" ;;
    *) watched copying "$(size_of "$image")" 1 dd if="$image" of="$unfinished" bs=1M conv=sparse status=none ;;
  esac || unpacked=$?
  [ "$unpacked" -eq 0 ] || refuse "$image cannot be unpacked" "a whole file and room for its contents" "" \
    "compare its SHA-256 with the one beside the download"
  case $image in *.xz | *.gz | *.zst) ;; *) truncate -s "$(size_of "$image")" -- "$unfinished" ;; esac # a hole at the end
  ln -s "$(realpath -- "$unfinished")" "$work/image" # a name without characters that debugfs or mtools would read
}

# partition NUMBER: type, first byte and size in bytes, from the MBR
partition() {
  local at=$((446 + 16 * ($1 - 1))) kind start sectors
  kind=$(od -An -tx1 -j $((at + 4)) -N 1 "$work/image" | tr -d ' \n')
  read -r start sectors < <(od -An -tu4 --endian=little -j $((at + 8)) -N 8 "$work/image")
  echo "$kind $((${start:-0} * 512)) $((${sectors:-0} * 512))"
}

find_partitions() {
  local what="an image of Raspberry Pi OS: an MBR, first a FAT boot partition, second an ext4 root"
  local advice="take an image from raspberrypi.com/software, or one made like it" signature
  signature=$(od -An -tx1 -j 510 -N 2 "$work/image" | tr -d ' \n')
  [ "$signature" = 55aa ] || refuse "$image has no partition table" "$what" "no MBR" "$advice"
  local kind bytes total
  total=$(size_of "$work/image")
  read -r kind fat_at bytes < <(partition 1)
  case $kind in
    01 | 04 | 06 | 0b | 0c | 0e) ;;
    ee) refuse "$image has a GPT" "$what" "a GPT" "$advice" ;;
    *) refuse "$image has no FAT partition first" "$what" "type $kind" "$advice" ;;
  esac
  [ $((fat_at + bytes)) -le "$total" ] || refuse "$image is cut off" "$(mebibytes $((fat_at + bytes)))" "$(mebibytes "$total")" "download it again"
  read -r kind ext4_at bytes < <(partition 2)
  [ "$kind" = 83 ] || refuse "$image has no Linux partition second" "$what" "type $kind" "$advice"
  [ $((ext4_at + bytes)) -le "$total" ] || refuse "$image is cut off" "$(mebibytes $((ext4_at + bytes)))" "$(mebibytes "$total")" "download it again"
  fat="image@@$fat_at" ext4="image?offset=$ext4_at"
  in_work mcopy -o -i "$fat" ::cmdline.txt cmdline.txt 2>/dev/null ||
    refuse "$image has no cmdline.txt on its first partition" "$what" "" "$advice"
  in_work dumpe2fs -h "$ext4" >"$work/super" 2>/dev/null ||
    refuse "$image has no ext4 file system on its second partition" "$what" "" "$advice"
}
in_work() { (cd "$work" && "$@"); }

# e2fsck's codes: 0 clean, 1 mended, above that not.
mend() { local status=0; in_work e2fsck -fp "$ext4" >"$work/fsck" 2>&1 || status=$?; [ "$status" -le 1 ]; }

ask_ext4() { in_work debugfs -R "$1" "$ext4" 2>/dev/null; }
ext4_has() { ask_ext4 "stat $1" | grep -q '^Inode:'; }
ext4_lists() { ask_ext4 "ls -p $1" | cut -d/ -f6; }
# MODE UID GID of a path
ext4_owner() {
  ask_ext4 "stat $1" | awk '/Mode:/ { for (i = 1; i < NF; i++) if ($i == "Mode:") mode = $(i + 1) }
    /^User:/ { print mode, $2, $4 }'
}
# fetch PATH NAME: a file of the image as $work/NAME
fetch() {
  rm -f "$work/$2"
  ask_ext4 "dump $1 $2" >/dev/null
  [ -s "$work/$2" ]
}

# By the first program found in it; a small image may have none that tells.
check_image_machine() {
  local probe found=''
  for probe in /usr/bin/dpkg /usr/bin/env /usr/bin/bash /bin/bash /bin/busybox /usr/lib/systemd/systemd /lib/systemd/systemd; do
    if fetch "$probe" probe; then found=$(elf_machine "$work/probe"); fi
    [ -z "$found" ] || break
  done
  rm -f "$work/probe"
  [ -n "$found" ] || note "$image holds no program that tells for which processor it is"
  [ "${found:-$machine}" = "$machine" ] ||
    refuse "$image is not for $board" "an image for $word" "one for $(machine_word "$found")" \
      "take the other image, or the profile that fits it (generic-aarch64, generic-armv7, generic-armv6)"
  systemd_version=$(ext4_lists "/usr/lib/$triplet/systemd" | sed -n 's/^libsystemd-shared-\([0-9]*\).*/\1/p')
  [ -n "$systemd_version" ] || note "$image has no systemd that is known here: nothing else starts the edge"
  systemd_version=${systemd_version:-0}
}

# The account must be there before the first boot, because the bundle belongs to its group: a free number below 1000 for
# user and group, as systemd-sysusers would take. Where there is one already, it stays.
plan_account() {
  local number
  if ! fetch /etc/passwd passwd || ! fetch /etc/group group; then
    note "$image has no accounts: the edge's is made at the first boot, and gets the bundle then"
    : >"$work/passwd"
    group_number=0
    printf 'z /etc/sanedge 0750 root sanedge -\nz /etc/sanedge/sanedge.bundle 0640 root sanedge -\n' |
      file 0644 root root /etc/tmpfiles.d/sanedge-bundle.conf
    return
  fi
  group_number=$(awk -F: '$1 == "sanedge" { print $3 }' "$work/group")
  if [ -n "$group_number" ] && grep -q '^sanedge:' "$work/passwd"; then return; fi
  [ -z "$group_number" ] && ! grep -q '^sanedge:' "$work/passwd" ||
    refuse "$image has half an account \`sanedge\`" "user and group, or neither" "one of them" "remove it there"
  for ((number = 999; number >= 100; number--)); do
    cut -d: -f3 "$work/passwd" "$work/group" | grep -qx "$number" || break
  done
  group_number=$number
  append passwd "sanedge:x:$number:$number:sanedge, the TLS edge:/nonexistent:/usr/sbin/nologin"
  append group "sanedge:x:$number:"
  if fetch /etc/shadow shadow; then append shadow "sanedge:!*:$(($(date +%s) / 86400))::::::"; fi
  if fetch /etc/gshadow gshadow; then append gshadow 'sanedge:!*::'; fi
}
ended() { awk 1 "$1"; } # with a line end behind the last line
# append NAME LINE: to /etc/NAME, which keeps its mode and owner
append() {
  local owner
  read -r -a owner < <(ext4_owner "/etc/$1")
  { ended "$work/$1"; printf '%s\n' "$2"; } | file "${owner[@]}" "/etc/$1"
}

plan_hostname() {
  [ -n "$hostname" ] || return 0
  printf '%s\n' "$hostname" | file 0644 root root /etc/hostname
  fetch /etc/hosts hosts || : >"$work/hosts"
  { sed '/^127\.0\.1\.1[[:space:]]/d' "$work/hosts"; printf '127.0.1.1\t%s\n' "$hostname"; } | file 0644 root root /etc/hosts
}

# The first user of the image (1000) gets the key. On Raspberry Pi OS a userconf.txt without a password keeps the
# wizard from renaming that user and asking for one at a screen that nobody looks at.
plan_ssh_key() {
  [ -n "$ssh_key" ] || return 0
  local user group home unit=
  IFS=: read -r user group home < <(awk -F: '$3 == 1000 { print $1 ":" $4 ":" $6 }' "$work/passwd") || true
  [[ ${user:-} =~ ^[a-z_][a-z0-9_-]*$ && ${home:-} =~ ^/[A-Za-z0-9_./-]+$ ]] ||
    refuse "$image has no user that could log in" "one with the number 1000" "" "leave --ssh-key out"
  for folder in /usr/lib/systemd/system /lib/systemd/system; do
    if ext4_has "$folder/ssh.service"; then unit=$folder/ssh.service; fi
  done
  [ -n "$unit" ] || refuse "$image has no sshd" "ssh.service in it" "" "leave --ssh-key out"
  dir 0700 1000 "$group" "$home/.ssh"
  { if fetch "$home/.ssh/authorized_keys" keys; then ended "$work/keys"; fi; grep . -- "$ssh_key"; } |
    sort -u | file 0600 1000 "$group" "$home/.ssh/authorized_keys"
  dir 0755 root root "$settings/multi-user.target.wants"
  plan link "$unit" "$settings/multi-user.target.wants/ssh.service"
  if ext4_has /usr/lib/userconf-pi/userconf; then
    printf '%s:*\n' "$user" >"$work/userconf.txt"
  fi
  note "log in as $user, with the key of $ssh_key; there is no password"
}

# Raspberry Pi kernels start with the memory controller off, and MemoryMax= would do nothing. The radio's country is a
# parameter of the kernel too, and the file that blocks it until one is set goes to "not blocked".
plan_boot() {
  local words="cgroup_enable=memory"
  [ -z "$wifi_country" ] || words+=" cfg80211.ieee80211_regdom=$wifi_country"
  head -n 1 "$work/cmdline.txt" | grep -q '[^[:space:]]' || refuse "the cmdline.txt of $image is empty" "the kernel's parameters" "" ""
  tr -d '\r' <"$work/cmdline.txt" | head -n 1 |
    sed -E "s/(^| )cgroup_enable=memory( |\$)/ /g; ${wifi_country:+s/(^| )cfg80211\.ieee80211_regdom=[^ ]*//g;}
      s/  +/ /g; s/^ //; s/ *\$/ $words/" >"$work/cmdline.new"
  [ -n "$wifi_country" ] || return 0
  local radio
  for radio in $(ext4_lists /var/lib/systemd/rfkill | grep ':wlan$'); do
    echo 0 | file 0644 root root "/var/lib/systemd/rfkill/$radio"
  done
}

number_of() {
  case $1 in
    root) echo 0 ;;
    sanedge) echo "$group_number" ;;
    *) echo "$1" ;;
  esac
}

# The plan as commands for debugfs. It writes a file only into its working directory, and says no word to the exit code
# about what failed: so everything is read back.
apply_plan() {
  local kind a b c path
  : >"$work/commands"
  while read -r kind a b c path; do
    case $kind in
      dir) in_ext4_dir "$path" && own 040 "$a" "$b" "$c" "$path" ;;
      file)
        in_ext4_dir "$(dirname "$path")"
        if ext4_has "$path"; then say_ext4 rm "$path"; fi
        say_ext4 cd "$(dirname "$path")"
        say_ext4 write "root$path" "$(basename "$path")"
        own 0100 "$a" "$b" "$c" "$path"
        ;;
      link)
        in_ext4_dir "$(dirname "$b")"
        if ext4_has "$b"; then say_ext4 rm "$b"; fi
        say_ext4 symlink "$b" "$a"
        ;;
      gone) if ext4_has "$a"; then say_ext4 rm "$a"; fi ;;
    esac
  done <"$work/plan"
  in_work debugfs -w -f commands "$ext4" >"$work/debugfs.out" 2>&1
  mend && in_work e2fsck -fn "$ext4" >"$work/fsck" 2>&1 ||
    refuse "the root file system did not come out clean; nothing was written" "" "$(tail -n 3 "$work/fsck")" ""
  proves
}
say_ext4() { printf '%s\n' "$*" >>"$work/commands"; }
own() {
  say_ext4 sif "$5" mode "$1${2#0}"
  say_ext4 sif "$5" uid "$(number_of "$3")"
  say_ext4 sif "$5" gid "$(number_of "$4")"
}
made=' '
in_ext4_dir() {
  case $made in *" $1 "*) return ;; esac
  if ! ext4_has "$1"; then
    in_ext4_dir "$(dirname "$1")"
    say_ext4 mkdir "$1"
  fi
  made+="$1 "
}

# Reads back what was put in.
proves() {
  local kind a b c path
  while read -r kind a b c path; do
    case $kind in
      file | dir)
        [ "$(ext4_owner "$path")" = "$a $(number_of "$b") $(number_of "$c")" ] || unproven "$path" "$(ext4_owner "$path")"
        [ "$kind" = dir ] || { fetch "$path" back && cmp -s "$work/back" "$work/root$path"; } || unproven "$path" "other contents"
        ;;
      link) ask_ext4 "stat $b" | grep -Fq "\"$a\"" || unproven "$b" "no link to $a" ;;
      gone) ! ext4_has "$a" || unproven "$a" "still there" ;;
    esac
  done <"$work/plan"
  rm -f "$work/back"
}
unproven() {
  refuse "$1 was not written as it should be; nothing is left of it" "what stands in the plan" "$2" \
    "see whether the image has room: $(sed -n 's/^Free blocks: *//p' "$work/super") blocks were free"
}

check_room() {
  local block free needed
  block=$(sed -n 's/^Block size: *//p' "$work/super")
  free=$(($(sed -n 's/^Free blocks: *//p' "$work/super") * block))
  needed=$(($(du -sb "$work/root" | cut -f1) + 1048576))
  [ "$free" -ge "$needed" ] ||
    refuse "the root partition of $image is full" "$(mebibytes "$needed") free" "$(mebibytes "$free")" \
      "take an image with more room"
}

put_boot() {
  local name
  cp "$work/cmdline.new" "$work/put.cmdline.txt"
  [ ! -f "$work/userconf.txt" ] || mv "$work/userconf.txt" "$work/put.userconf.txt"
  for name in cmdline.txt userconf.txt; do
    [ -f "$work/put.$name" ] || continue
    in_work mcopy -o -i "$fat" "put.$name" "::$name" &&
      in_work mcopy -o -i "$fat" "::$name" back && cmp -s "$work/back" "$work/put.$name" ||
      refuse "$name was not written to the boot partition; nothing is left of it" "room on it" "" "take another image"
  done
}

show_plan() {
  local kind a b c path
  while read -r kind a b c path; do
    case $kind in
      file) detail "$path  $a $b:$c" ;;
      dir) detail "$path/  $a $b:$c" ;;
      link) detail "$b -> $a" ;;
      gone) ;;
    esac
  done < <(awk '!seen[$0]++' "$work/plan")
}

make_image() {
  unpack
  # A dry run looks into an image that lies there unpacked, and takes a packed one on trust.
  if [ -n "$dry" ]; then
    case $image in
      *.xz | *.gz | *.zst) note "a dry run does not look into a packed image" ;;
      *) ln -s "$(realpath -- "$image")" "$work/image" ;;
    esac
  fi
  group_number='?' systemd_version=0
  if [ -e "$work/image" ]; then
    find_partitions
    [ -n "$dry" ] || mend || refuse "the root file system of $image is damaged" "one that e2fsck mends by itself" \
      "$(tail -n 3 "$work/fsck")" "download the image again"
    [ -z "$device" ] || device_holds "$(size_of "$work/image")"
    check_image_machine
    plan_edge
    plan_account
    plan_hostname
    plan_ssh_key
    plan_boot
    check_room
  else
    plan_edge
  fi
  step "put into the root partition"
  show_plan
  [ -n "$dry" ] || apply_plan
  step "put into cmdline.txt: cgroup_enable=memory${wifi_country:+ cfg80211.ieee80211_regdom=$wifi_country}"
  [ -n "$dry" ] || put_boot
}

finish_image() {
  [ -n "$out" ] || return 0
  step "name it $out, mode 0600"
  [ -z "$dry" ] || return 0
  chmod 0600 -- "$unfinished"
  sync -- "$unfinished"
  mv -f -- "$unfinished" "$out"
  unfinished=
  note "$out holds private keys: it is for your eyes only (0600), and so is the card"
}

# --- the card -------------------------------------------------------------------------------------------------------

# Its first MiB is emptied at once and written last: a card that was pulled too early has no partition table.
write_device() {
  [ -n "$device" ] || return 0
  local source=${unfinished:-$out} size mib=1048576
  step "write $device ($(describe_device)), erasing it"
  step "read $device back and compare SHA-256"
  [ -z "$dry" ] || return 0
  check_device
  size=$(size_of "$source")
  card_begun=1
  dd if=/dev/zero of="$device" bs=$mib count=1 conv=fsync,nocreat status=none
  watched writing "$size" 1 dd if="$source" of="$device" bs=4M skip=$mib seek=$mib iflag=skip_bytes \
    oflag=seek_bytes,direct conv=fsync,nocreat status=none
  dd if="$source" of="$device" bs=$mib count=1 conv=fsync,nocreat status=none
  local wanted found
  wanted=$(sha256sum <"$source")
  read_back "$size"
  found=$(cat "$work/sum")
  [ "$wanted" = "$found" ] ||
    refuse "$device gives back something else than was written" "SHA-256 ${wanted%% *}" "${found%% *}" \
      "the card is broken or smaller than it says: take another"
  card_begun=
  detail "SHA-256 ${wanted%% *}"
  note "the card holds private keys"
}

# From the card itself, not from memory.
read_back() {
  local direct='' sum pipe
  blockdev --flushbufs "$device" 2>/dev/null || direct=,direct
  exec {pipe}> >(sha256sum >"$work/sum")
  sum=$!
  watched reading "$1" 0 dd if="$device" bs=4M count="$1" iflag="count_bytes$direct" status=none >&"$pipe" ||
    refuse "$device cannot be read back" "what was written" "see above" "take another card, or another reader for it"
  exec {pipe}>&-
  wait "$sum"
}

# --- a running board ------------------------------------------------------------------------------------------------

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

# What runs on the board, as root: keeps what was there, puts the new in, waits for readiness, puts the old back where
# that fails. A file is replaced by a rename; a broken line does not stop it half-way.
board_half() {
  cat <<'SCRIPT'
#!/bin/sh
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
SCRIPT
}

install_on_host() {
  plan_edge
  step "put onto $host"
  show_plan
  step "restart it there, wait until it is ready, roll back if it is not"
  [ -z "$dry" ] || return 0
  board_half >"$work/install"
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

# --- all of it ------------------------------------------------------------------------------------------------------

check_board
check_files
check_tools
check_out
check_device
work=$(mktemp -d -- "${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}/sanedge-flash.XXXXXX")
find_sanedge
compile_bundle
[ -z "$host" ] || check_host_machine
find_binary
if [ -n "$host" ]; then
  install_on_host
else
  make_image
  finish_image
  write_device
fi
if [ -n "$dry" ]; then note "this was a dry run: nothing was changed"; else doing "finished"; fi
