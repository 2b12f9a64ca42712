# shellcheck shell=bash disable=SC2034,SC2054,SC2154
# Shared by build.sh and test.sh: what a board's profile says, and the compiler that makes a standard library for it.

die() { printf '%s\n' "$@" >&2; exit 1; }

# Sets target and cpu (empty where the profile has none) from boards/$1.toml.
read_board() {
  local file=boards/$1.toml names
  if [ ! -f "$file" ]; then
    names=$(cd boards && printf '%s, ' *.toml | sed 's/\.toml//g; s/, $//')
    die "there is no board \`$1\`; expected one of $names"
  fi
  target=$(sed -n 's/^target = "\(.*\)"$/\1/p' "$file")
  cpu=$(sed -n 's/^target_cpu = "\([^"]*\)".*$/\1/p' "$file")
  [ -n "$target" ] || die "$file has no target"
}

# What Debian calls the tools for $target, their package, and the qemu that runs it.
case_target() {
  case $target in
    aarch64-*) gnu=aarch64-linux-gnu package=binutils-aarch64-linux-gnu qemu=(qemu-aarch64-static) ;;
    armv7-*) gnu=arm-linux-gnueabihf package=binutils-arm-linux-gnueabihf qemu=(qemu-arm-static) ;;
    # The model of a Pi Zero's core, so that an instruction of ARMv7 ends in SIGILL here as there.
    arm-*) gnu=arm-linux-gnueabihf package=binutils-arm-linux-gnueabihf qemu=(qemu-arm-static -cpu arm1176) ;;
    *) die "no board has the target $target" ;;
  esac
}

# cargo-zigbuild and zig: those on PATH, else pinned ones in a folder of their own.
zig_tools() {
  if command -v cargo-zigbuild >/dev/null && { command -v zig || python3 -m ziglang version; } >/dev/null 2>&1; then
    return
  fi
  local venv=$base/venv
  if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    printf 'installing cargo-zigbuild and zig into %s\n' "$venv"
    python3 -m venv "$venv" || die "python3 cannot make a venv: apt-get install python3-venv"
    "$venv/bin/pip" install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.1
  fi
  PATH=$venv/bin:$PATH
}

# A standard library made from its source, with only what panic = "unwind" needs: the binary is stripped, so the code that turns
# addresses into names for a backtrace would find none. rustup's ready-made library has that code in it, and a board's
# budget has no room for it (docs/boards.md).
std_crates=std,panic_unwind
std_features=panic-unwind,optimize_for_size
# What of it is in the path of a session is generic, and compiled with the crate that uses it; the rest is optimised for size.
std_profile=(--config profile.board.package.core.opt-level="\"s\"" --config profile.board.package.alloc.opt-level="\"s\""
  --config profile.board.package.std.opt-level="\"s\"")

# Each place in a library that may panic is 24 bytes beside its path. A panic there says <redacted> for its place, and a panic in code
# of ours still names file and line. A derived `Debug` of a library prints the name of a variant without its fields: messages for users
# take `Display`. Takes RUSTC_BOOTSTRAP.
terse=(-Zprofile-rustflags --config 'profile.board.package."*".rustflags=["-Zlocation-detail=none", "-Zfmt-debug=shallow"]')

# Whether the compiler that `"$@"` runs has the library's source.
has_source() { [ -d "$("$@" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" ]; }

# Says that toolchain $1 gives its library as it is.
ready_made() {
  printf '%s\n' "$1 has no source of the standard library, so the program will be larger than its budget;" \
    "  rustup component add rust-src    makes it small" >&2
}

# Without containers: the library is made by the first compiler that has its source, rustup's or Debian's; else it is rustup's own.
zig_compiler() {
  build_std=()
  zig_tools
  local rustc
  for rustc in rustc /usr/bin/rustc; do
    has_source "$rustc" || continue
    build_std=("-Zbuild-std=$std_crates" "-Zbuild-std-features=$std_features" "${terse[@]}")
    export RUSTC_BOOTSTRAP=1
    if [ "$rustc" = /usr/bin/rustc ]; then export RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo; fi
    return
  done
  if command -v rustup >/dev/null && rustup target list --installed | grep -qx "$target"; then ready_made "rustup's toolchain"; return; fi
  die "no standard library for $target; one of these gives it:" "  rustup component add rust-src" \
    "  apt-get install rustc-web cargo-web rust-web-src" "  rustup target add $target    (its programs are larger than their budget)"
}

# What the link is told, in $linking. rustc would look for start files that only rustup's target component has; zig brings its own.
# zig ignores rustc's -static-pie, so a position-independent program needs -pie.
# keccak (of ML-KEM) would also bring code for processors with SHA-3 instructions, which no Raspberry Pi has.
read_linking() { linking='-C link-self-contained=no -C link-arg=-pie --cfg keccak_backend="soft"'; }

zig_flags() {
  read_linking
  # The builder's home is nobody's business, and its length would be part of the program's. Tables for unwinding are needed at
  # calls only, where a panic passes, and not after every instruction.
  RUSTFLAGS="$linking --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=${cpu:+ -C target-cpu=$cpu}"
  [ ${#build_std[@]} -eq 0 ] || RUSTFLAGS+=" -Zuse-sync-unwind=yes" # takes RUSTC_BOOTSTRAP, as build-std does
  export RUSTFLAGS SANEDGE_TARGET=$target SANEDGE_ZIG=zig
  command -v zig >/dev/null || SANEDGE_ZIG='python3 -m ziglang'
}
# What the last link alone is told. The path is relative, because cargo makes it part of the names of functions.
zig_link=(-C linker-flavor=gcc -C linker=cross/link)
