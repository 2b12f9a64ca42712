#!/usr/bin/env bash
# Runs the test suite for a board's processor, emulated: cross/test.sh BOARD [arguments of cargo test]
#
# Everything that needs neither node nor root nor a browser, built for the board's target and run by qemu-user: the tests,
# and the program that they start. `cross/test.sh rpi-zero --test socketio_rust` runs that file alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/common.sh

[ $# -ge 1 ] || die "usage: cross/test.sh BOARD [arguments of cargo test]"
read_board "$1"
shift
case_target
command -v "${qemu[0]}" >/dev/null || die "there is no ${qemu[0]}: apt-get install qemu-user-static"

# What has a reason not to run here: other programs of the host, root, or how long a release build takes.
elsewhere=(demo_browser root_replaces_bundle socketio_interop tools)
if [ $# -eq 0 ]; then
  set -- --lib --example assets
  for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/} name=${name%.rs} name=${name%/main}
    [[ " ${elsewhere[*]} " == *" $name "* ]] || set -- "$@" --test "$name"
  done
fi

base=${CARGO_TARGET_DIR:-$PWD/target}/cross
export CARGO_TARGET_DIR=$base/zig
zig_compiler
zig_flags
runner=CARGO_TARGET_${target//-/_}_RUNNER
export "${runner^^}=${qemu[*]}" SANEDGE_RUNNER="${qemu[*]}"
# Emulated arithmetic is slow enough without a compiler that does not try.
cargo-zigbuild test "${build_std[@]}" --no-fail-fast --locked --target "$target" --config profile.dev.debug=false \
  --config profile.dev.package.ring.opt-level=3 --config profile.dev.package.rustls.opt-level=1 "$@"
