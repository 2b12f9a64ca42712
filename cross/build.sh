#!/usr/bin/env bash
# Builds the program for a board: cross/build.sh [--zig | --cross] BOARD
#
# A static musl binary, stripped, within its budget of bytes, printed with its size, its largest crates and its SHA-256. It is
# left in <target directory>/boards/BOARD/. Uses `cross` if that and a container engine work, otherwise zig (docs/boards.md).
# Fails if the binary is too large, not static, or has AES, SHA or PMULL instructions outside ring's functions.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/common.sh

budget=$((6 * 1024 * 1024)) # an update over ssh takes seconds, and pages of code are memory on a board with 256 MiB
way=
case ${1:-} in --zig | --cross) way=${1#--} && shift ;; esac
[ $# -eq 1 ] || die "usage: cross/build.sh [--zig | --cross] BOARD"
board=$1
read_board "$board"
case_target

# cross takes docker where there is a program of that name, also where no engine answers it.
engine() {
  local name
  for name in ${CROSS_CONTAINER_ENGINE:-docker podman}; do
    if "$name" info >/dev/null 2>&1; then export CROSS_CONTAINER_ENGINE=$name; return; fi
  done
  return 1
}
# cross 0.2.5 does not find the active toolchain in the list that rustup 1.28 prints, and "adds" it: that moves `stable` to
# the newest release behind the user's back. One that is named by its version stays what it is.
toolchain=${CROSS_TOOLCHAIN:-$(rustc -vV | sed -n 's/^release: //p')-$(rustc -vV | sed -n 's/^host: //p')}
# What cross finds missing it has rustup download, and RUSTUP_AUTO_INSTALL=0 says that nothing is to come unasked.
cross_has_all() {
  rustup toolchain list | grep -qxF "$toolchain" || return
  [ -z "${CROSS_CUSTOM_TOOLCHAIN:-}" ] || return 0
  local parts
  parts=$(rustup component list --installed --toolchain "$toolchain") || return
  grep -qx rust-src <<<"$parts" && grep -qx "rust-std-$target" <<<"$parts"
}
cross_may_run() {
  command -v cross >/dev/null && engine && { [ "${RUSTUP_AUTO_INSTALL:-1}" != 0 ] || cross_has_all; }
}
if [ -z "$way" ]; then
  if cross_may_run; then way=cross; else way=zig; fi
fi
# Every tool that is needed after the build is looked for before it, which takes minutes.
strip=$(command -v "$gnu-strip" llvm-strip | head -n 1) || true
[ -n "$strip" ] || die "there is no $gnu-strip: apt-get install $package"
for tool in readelf nm; do command -v "$tool" >/dev/null || die "there is no $tool: apt-get install binutils"; done
case $target in
  aarch64-*) command -v aarch64-linux-gnu-objdump >/dev/null || die "there is no aarch64-linux-gnu-objdump: apt-get install $package" ;;
esac

# Compilers of their own would rebuild each other's work in one folder.
base=${CARGO_TARGET_DIR:-$PWD/target}/cross
export CARGO_TARGET_DIR=$base/$way
# Names of functions stay until the instructions have been looked at. Said to the last link alone: as part of the profile it
# would be another build of every crate; and zig strips them for "debuginfo" as well.
arguments=(--locked --profile board --target "$target" --bin sanedge -- -C strip=none)
case $way in
  cross)
    engine || die "cross needs a container engine that runs: docker or podman"
    if has_source rustc "+$toolchain"; then
      export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=$std_crates CARGO_UNSTABLE_BUILD_STD_FEATURES=$std_features
      arguments=("${std_profile[@]}" "${terse[@]}" "${arguments[@]}")
    else
      ready_made "$toolchain"
    fi
    read_linking
    export CROSS_CONFIG=${CROSS_CONFIG:-cross/Cross.toml} RUSTFLAGS="$linking${cpu:+ -C target-cpu=$cpu}"
    cross "+$toolchain" rustc "${arguments[@]}"
    ;;
  zig)
    zig_compiler
    zig_flags
    cargo-zigbuild rustc "${build_std[@]}" "${std_profile[@]}" "${arguments[@]}" "${zig_link[@]}"
    ;;
esac

built=$CARGO_TARGET_DIR/$target/board/sanedge
out=${base%/cross}/boards/$board/sanedge
case $target in aarch64-*) cross/check-instructions "$built" ;; esac # others: ring has no such instructions there
mkdir -p "$(dirname "$out")"
"$strip" --strip-all -o "$out" "$built"
chmod 755 "$out"
headers=$(readelf -lW "$out") || die "readelf does not say whether $out is static: apt-get install binutils"
if grep -q INTERP <<<"$headers"; then die "$out asks for a dynamic loader: it is not static"; fi

bytes=$(stat -c %s "$out")
printf '%s\n  board   %s (%s%s)\n  size    %d bytes, %d.%02d MiB of at most 6.00\n  sha256  %s\n' \
  "$out" "$board" "$target" "${cpu:+, $cpu}" "$bytes" $((bytes / 1048576)) $((bytes % 1048576 * 100 / 1048576)) \
  "$(sha256sum "$out" | cut -d' ' -f1)"
cross/size-by-crate "$built"
[ "$bytes" -le "$budget" ] || die "too large: $bytes bytes, $((bytes - budget)) more than $budget (docs/measurements.md lists what uses the space)"
recorded=$(sed -n "s/^$board *= *//p" cross/sizes)
if [ -n "$recorded" ] && [ $((bytes * 100)) -gt $((recorded * 105)) ]; then
  die "$bytes bytes is over 5% more than the $recorded recorded in cross/sizes: make it smaller, or record the new size and say why"
fi
