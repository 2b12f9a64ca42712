# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# Checks before anything is done.

profile() { sed -n "s/^$1 *= *\"\([^\"]*\)\".*/\1/p" "$here/boards/$board.toml"; }

check_board() {
  [[ $board =~ ^[a-z0-9-]+$ ]] && [ -f "$here/boards/$board.toml" ] ||
    refuse no-board "" "$board" "$(cd "$here/boards" && echo *.toml | sed 's/\.toml//g')"
  target=$(profile target) budget=$(profile budget)
  case $target in
    aarch64-*) machine=183 triplet=aarch64-linux-gnu ;;
    armv7-*) machine=40 triplet=arm-linux-gnueabihf cores='v7' ;;
    arm-*) machine=40 triplet=arm-linux-gnueabihf cores='v6' ;;
  esac
  word=$(machine_word "$machine")
}

# The machine that an ELF file is for, by its number in the ELF header; nothing if the file is not ELF.
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
  [ -f "$config" ] || refuse no-file "" "$config" "the sanedge.toml to compile"
  [ -z "$binary" ] || [ -f "$binary" ] || refuse no-file "" "$binary" "the program for the board"
  [ -z "$sanedge" ] || [ -x "$sanedge" ] || refuse cannot-run "" "$sanedge"
  [ -n "$host" ] || [ -f "$image" ] || refuse no-file "" "$image" "a Raspberry Pi OS style image"
  if [ -n "$hostname" ] && ! [[ $hostname =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]]; then
    refuse hostname "$hostname"
  fi
  if [ -n "$wifi_country" ] && ! [[ $wifi_country =~ ^[A-Z]{2}$ ]]; then
    refuse wifi-country "$wifi_country"
  fi
  if [ -n "$ssh_key" ]; then
    [ -f "$ssh_key" ] || refuse key-missing "" "$ssh_key"
    ! grep -q 'PRIVATE KEY' -- "$ssh_key" ||
      refuse key-private "$ssh_key" "$ssh_key"
    grep -Eq '^(ssh|ecdsa|sk)-[^ ]+ [A-Za-z0-9+/=]+' -- "$ssh_key" ||
      refuse key-unknown "$ssh_key"
    ! grep -Evq '^(#.*|[[:space:]]*|(ssh|ecdsa|sk)-[^ ]+ [A-Za-z0-9+/=]+.*)$' -- "$ssh_key" ||
      refuse key-options "$(grep -Ev '^(#.*|[[:space:]]*|(ssh|ecdsa|sk)-[^ ]+ .*)$' -- "$ssh_key" | head -n 1 | cut -c 1-60)" "$ssh_key"
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
  case $image_kind in
    xz) need xz xz-utils ;;
    gz) need gzip gzip ;;
    zst) need zstd zstd ;;
    bz2) need bzip2 bzip2 ;;
    zip) need unzip unzip ;;
  esac
  if [ -n "$device" ]; then
    need lsblk util-linux
    need blockdev util-linux
    need perl perl-base
  fi
}

check_out() {
  [ -n "$out" ] || return 0
  [ ! -L "$out" ] && { [ ! -e "$out" ] || [ -f "$out" ]; } ||
    refuse out-kind "$(stat -c %F -- "$out")" "$out"
  [ -d "$(dirname -- "$out")" ] || refuse out-folder "" "$(dirname -- "$out")"
  [ ! "$out" -ef "$image" ] ||
    refuse out-same
}
