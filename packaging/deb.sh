#!/usr/bin/env bash
# A Debian package for one architecture:
#
#   packaging/deb.sh amd64|arm64|armhf [PROGRAM] [-o FOLDER] [--assets FOLDER]
#
# PROGRAM is a static sanedge for it, and built by cross/build.sh unless given (for amd64 in the same way, without a board). The
# armhf package carries the ARMv6 program, because Raspberry Pi OS on a Zero calls itself armhf as well. Needs cargo and
# cargo-deb; writes sanedge_VERSION_ARCH.deb into FOLDER (target/debian unless given) and says where, with size and SHA-256. Man pages and
# completions are made unless --assets has them already (`cargo run --example assets FOLDER`). SOURCE_DATE_EPOCH is the time of all
# its files, so that the same program gives the same package.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
complain() { printf 'packaging/deb.sh: %s\n' "$*" >&2; exit 1; }

arch='' program='' assets='' builds=${CARGO_TARGET_DIR:-$PWD/target}
folder=$builds/debian
while [ $# -gt 0 ]; do
  case $1 in
    -o) [ $# -ge 2 ] || usage; folder=$2; shift ;;
    --assets) [ $# -ge 2 ] || usage; assets=$2; shift ;;
    -*) usage ;;
    *) if [ -z "$arch" ]; then arch=$1; elif [ -z "$program" ]; then program=$1; else usage; fi ;;
  esac
  shift
done
case $arch in
  amd64) board='' triple=x86_64-unknown-linux-musl machine='3e 00' ;;
  arm64) board=generic-aarch64 triple=aarch64-unknown-linux-musl machine='b7 00' ;;
  armhf) board=rpi-zero triple=arm-unknown-linux-musleabihf machine='28 00' ;;
  *) usage ;;
esac
command -v cargo-deb >/dev/null || complain "expected cargo-deb in PATH: type 'cargo install cargo-deb --locked'"

# For amd64: what cross/build.sh does, without a board's budget and the check of its instructions.
# shellcheck disable=SC2034,SC2154 # what common.sh reads and sets
build_amd64() (
  # shellcheck source=/dev/null
  . cross/common.sh
  base=$builds/cross target=$triple cpu=''
  export CARGO_TARGET_DIR=$base/zig
  zig_compiler
  zig_flags
  cargo-zigbuild rustc "${build_std[@]}" "${std_profile[@]}" --locked --profile board --target "$triple" --bin sanedge -- "${zig_link[@]}"
)

if [ -z "$program" ] && [ -n "$board" ]; then
  cross/build.sh "$board"
  program=$builds/boards/$board/sanedge
elif [ -z "$program" ]; then
  build_amd64
  program=$builds/cross/zig/$triple/board/sanedge
fi
[ -f "$program" ] || complain "expected a program at $program, found none"

# A program of another machine, or one that wants libraries, would install well and not start. (ELF: e_machine at 18.)
found=$(od -An -tx1 -j18 -N2 "$program" | tr -s ' ')
[ "$found" = " $machine" ] || complain "$program is not for $arch: expected ELF machine $machine, found$found"
# Many a board that Debian calls armhf is an ARMv6 one.
if [ "$arch" = armhf ]; then
  command -v readelf >/dev/null || complain "expected readelf in PATH: type 'apt install binutils'"
  found=$(readelf -A "$program" | sed -n 's/^ *Tag_CPU_arch: *//p' | head -n 1)
  case $found in
    v[45]* | v6 | v6K | v6KZ) ;;
    *) complain "$program is not for every armhf board: expected one for ARMv6 (readelf -A), found ${found:+ARM}${found:-no word of it}" ;;
  esac
fi
if grep -aq -m1 -e '/lib/ld-' -e '/lib64/ld-' <(head -c 4096 "$program"); then
  complain "$program is linked dynamically: the package depends on no library, build it for $triple"
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
built=$stage/$triple/release
mkdir -p "$built" "$folder"
install -m 0755 "$program" "$built/sanedge"
if [ -n "$assets" ]; then cp -r "$assets" "$built/assets"; else cargo run --quiet --locked --example assets -- "$built/assets" >/dev/null; fi
gzip -9n "$built"/assets/man/*

deb=$(CARGO_TARGET_DIR=$stage cargo deb --quiet --no-build --no-strip --target "$triple" -o "$folder/")
printf '%s  %s bytes  sha256 %s\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
