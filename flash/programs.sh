# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# The two programs and the bundle.

version() { sed -n 's/^version *= *"\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1; }

find_sanedge() {
  [ -z "$sanedge" ] || return 0
  if [ "$(sanedge --version 2>/dev/null)" = "sanedge $(version)" ]; then
    sanedge=sanedge
    return
  fi
  command -v cargo >/dev/null ||
    refuse no-sanedge "" "$(version)"
  doing "build the sanedge of this machine: cargo build --release"
  watched cargo 0 - build cargo build --quiet --locked --release --manifest-path "$here/Cargo.toml" --bin sanedge
  sanedge=$(cargo metadata --format-version 1 --no-deps --locked --manifest-path "$here/Cargo.toml" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/sanedge
}

compile_bundle() {
  doing "compile and check $config"
  local said
  if ! said=$("$sanedge" bundle "$config" -o "$work/sanedge.bundle" 2>&1); then
    printf '%s\n' "$said" >&2
    refuse bundle
  fi
  printf '%s\n' "$said" | grep -v 'sanedge.bundle' | sed 's/^/      /'
  "$sanedge" show --json "$work/sanedge.bundle" >"$work/show.json"
  local named
  named=$(sed -n 's/^  "board": "\(.*\)",$/\1/p' "$work/show.json")
  [ "$named" = "$board" ] ||
    refuse bundle-board "board = \"$named\"" "$board" "$config"
}
# Values of the listeners, one a line, from what `sanedge show --json` prints.
listener() {
  sed -n '/^  "listen": {$/,/^  }/p' "$work/show.json" | sed -n "/^    \"$1\": \[\$/,/^    \]/p" |
    sed -n 's/^      "\(.*\)",\{0,1\}$/\1/p'
}
# Without an address in sanedge.toml it is the default one; a TCP address needs no unit.
admin_socket() {
  sed -n 's/^    "admin": "unix:\(.*\)",\{0,1\}$/\1/p; s|^    "admin": null,\{0,1\}$|/run/sanedge/admin.sock|p' "$work/show.json"
}
drain_timeout_ms() { sed -n 's/^  "drain_timeout_ms": \([0-9]*\),\{0,1\}$/\1/p' "$work/show.json"; }

find_binary() {
  if [ -z "$binary" ]; then
    [ -x "$here/cross/build.sh" ] ||
      refuse no-program "" "$board"
    step "build the program for $board: cross/build.sh $board"
    if [ -n "$dry" ]; then binary=/dev/null && return; fi
    watched cross/build.sh 0 - build "$here/cross/build.sh" "$board"
    binary=${CARGO_TARGET_DIR:-$here/target}/boards/$board/sanedge
    [ -f "$binary" ] || refuse no-build "" "$board" "$binary"
  fi
  local found
  found=$(elf_machine "$binary")
  [ "$found" = "$machine" ] ||
    refuse program-machine "$(machine_word "$found")" "$binary" "$board" "$word"
  [ "$machine" = 40 ] || return 0
  found=$(arm_arch "$binary")
  runs_on "$cores" "$found" ||
    refuse program-cores "${found:+one for ARM}${found:-no build attributes (readelf -A)}" "$binary" "$board" "$cores"
}
