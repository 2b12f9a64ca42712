#!/usr/bin/env bash
# Builds the program for a board: cross/build.sh [--zig | --cross] [--doctor] BOARD
#
# A static musl binary, stripped, within its budget of bytes, printed with its size and SHA-256; it is left in
# <target directory>/boards/BOARD/. Takes `cross` where that and a container engine are there, else zig (docs/boards.md).
# Fails where the binary is too large, not static, or has AES, SHA or PMULL instructions outside ring's functions.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/common.sh

budget=$((35 * 1024 * 1024 / 10)) # an update of a card over ssh is seconds, and pages of code are memory on 256 MiB
way=
case ${1:-} in --zig | --cross) way=${1#--} && shift ;; esac
# `sanedge doctor` looks from where the clients are; with it a program is beyond the budget, which then is not enforced.
features=(--no-default-features)
if [ "${1:-}" = --doctor ]; then features=() && shift; fi
[ $# -eq 1 ] || die "usage: cross/build.sh [--zig | --cross] [--doctor] BOARD"
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
strip=$(command -v "$gnu-strip" llvm-strip | head -n 1) || true
[ -n "$strip" ] || die "there is no $gnu-strip: apt-get install $package"

# Compilers of their own would rebuild each other's work in one folder.
base=${CARGO_TARGET_DIR:-$PWD/target}/cross
export CARGO_TARGET_DIR=$base/$way
# Names of functions stay until the instructions have been looked at. Said to the last link alone: as part of the profile it
# would be another build of every crate; and zig strips them for "debuginfo" as well.
arguments=(--locked --release "${features[@]}" --target "$target" --bin sanedge -- -C strip=none)
case $way in
  cross)
    engine || die "cross needs a container engine that runs: docker or podman"
    if has_source rustc "+$toolchain"; then
      export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=$std_crates CARGO_UNSTABLE_BUILD_STD_FEATURES=$std_features
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
    cargo-zigbuild rustc "${build_std[@]}" "${arguments[@]}"
    ;;
esac

built=$CARGO_TARGET_DIR/$target/release/sanedge
out=${base%/cross}/boards/$board/sanedge
case $target in aarch64-*) cross/check-instructions "$built" ;; esac # others: ring has no such instructions there
mkdir -p "$(dirname "$out")"
"$strip" --strip-all -o "$out" "$built"
chmod 755 "$out"
headers=$(readelf -lW "$out") || die "readelf does not say whether $out is static: apt-get install binutils"
if grep -q INTERP <<<"$headers"; then die "$out asks for a dynamic loader: it is not static"; fi

bytes=$(stat -c %s "$out")
printf '%s\n  board   %s (%s%s)\n  size    %d bytes, %d.%02d MiB of at most 3.50\n  sha256  %s\n' \
  "$out" "$board" "$target" "${cpu:+, $cpu}" "$bytes" $((bytes / 1048576)) $((bytes % 1048576 * 100 / 1048576)) \
  "$(sha256sum "$out" | cut -d' ' -f1)"
[ "$bytes" -le "$budget" ] || [ ${#features[@]} -eq 0 ] || die "too large: $bytes bytes, $((bytes - budget)) more than $budget (docs/measurements.md lists what uses the space)"
