#!/usr/bin/env bash
# Runs the test suite for a board's processor, emulated: cross/test.sh BOARD [arguments of cargo test]
#
# Everything that needs neither node nor root nor a browser, built for the board's target and run by qemu-user: the tests,
# and the program that they start. `cross/test.sh rpi-zero --test it socketio_rust::` runs that topic alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/common.sh

[ $# -ge 1 ] || die "usage: cross/test.sh BOARD [arguments of cargo test]"
read_board "$1"
shift
case_target
command -v "${qemu[0]}" >/dev/null || die "there is no ${qemu[0]}: apt-get install qemu-user-static"

# What has a reason not to run here: other programs of the host, root, how long a release build takes, or names that a profiler finds
# on the stack.
elsewhere=(demo_browser:: root_replaces_bundle:: socketio_interop:: tools::)   # and tests/allocations.rs
# And what says how long something takes at most, or how much is done within a time: emulated, on a machine with other work, that is
# no news.
timed=(a_bundle_is_checked_host_by_host_with_its_app a_handshake_has_its_time a_large_frame_arrives_whole_before_the_close
  a_restart_tells_everybody_within_a_second a_short_flood_loses_no_websocket
  a_slow_reader_is_no_stalled_one_though_the_kernel_holds_megabytes_for_it connections_queue_and_none_is_refused
  each_fault_is_found_first_and_nothing_is_found_where_nothing_is_wrong forty_reloads_under_load inside_the_namespace
  many_hosts_in_a_black_hole_are_bounded_together real_clients_are_back_by_themselves sigterm_tells_every_websocket_spread_over_drain_spread
  thousands_of_bad_handshakes_add_few_lines_and_cost_no_session
  without_a_namespace_the_app_sees_no_client_and_with_one_that_is_announced)
if [ $# -eq 0 ]; then
  set -- --lib --example assets --test it --test alone --test layering --
  for name in "${elsewhere[@]}" "${timed[@]}"; do set -- "$@" --skip "$name"; done
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
