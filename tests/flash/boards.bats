#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# What cross/build.sh and cross/test.sh do around a compiler: here a stand-in.

load support
setup() {
  mkdir -p "$BATS_TEST_TMPDIR/here"
  cd "$BATS_TEST_TMPDIR/here" || return
  export CARGO_TARGET_DIR=$PWD/target HERE=$PWD
  [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ] || [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ] ||
    skip_loudly "no source of the standard library (Debian: rust-web-src)"
  stand_in zig ''
}

@test "a program that readelf did not look into is not taken for a static one" {
  elf_arm 6 program
  stand_in cargo-zigbuild 'there=$CARGO_TARGET_DIR/arm-unknown-linux-musleabihf/board; mkdir -p "$there"; cp "$HERE/program" "$there/sanedge"'
  stand_in arm-linux-gnueabihf-strip 'cp "$4" "$3"'
  stand_in readelf 'echo "readelf: not found" >&2; exit 127'
  run "$repository/cross/build.sh" --zig rpi-zero
  [ "$status" -eq 1 ] || { echo "$status $output"; false; }
  says "readelf does not say" "apt-get install binutils"
  stand_in readelf 'exec "$real" "$@"'
  run "$repository/cross/build.sh" --zig rpi-zero
  [ "$status" -eq 0 ] || { echo "$status $output"; false; }
}

@test "the tests for a board are all but those that are named as run elsewhere" {
  stand_in cargo-zigbuild 'printf "%s\n" "$@" >"$HERE/asked"'
  stand_in qemu-arm-static ''
  run "$repository/cross/test.sh" rpi-zero
  [ "$status" -eq 0 ] || { echo "$status $output"; false; }
  sed -n '/^--test$/{n;p}' asked >asked.tests
  (cd "$repository" && cargo metadata --format-version 1 --no-deps --locked --offline) |
    grep -o '"kind":\["test"\],"crate_types":\["bin"\],"name":"[^"]*"' | sed 's/.*"name":"//; s/"$//' >tests
  grep -qx it tests
  # allocations looks for names on the stack, and skipped only lists what did not run.
  diff <(sort tests) <(sort asked.tests <(printf '%s\n' allocations skipped))
  # A name that is skipped exists, or it would run here.
  sed -n '/^--skip$/{n;p}' asked >left.out
  [ "$(wc -l <left.out)" -ge 15 ]
  while read -r name; do
    case $name in
      *::) [ -f "$repository/tests/it/${name%::}.rs" ] ;;
      *) grep -rqE "fn ([a-z_]*)?$name" "$repository/tests" "$repository/src" ;;
    esac || { echo "nothing is called $name"; false; }
  done <left.out
}
