#!/usr/bin/env bats
# shellcheck disable=SC2154  # status and output are bats' own
# What takes minutes looks for every tool that it will need before it begins, and names the package: cross/build.sh, tests/boot/run.

repository=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

# A PATH with this machine's programs, and stand-ins for what compiles: each leaves a mark.
setup() {
  path=$BATS_TEST_TMPDIR/path mark=$BATS_TEST_TMPDIR/mark
  mkdir "$path"
  ln -sf /usr/bin/* /usr/sbin/* "$path/"
  stand_in rustc 'printf "release: 1.0.0\nhost: none\n"'
  stand_in zig 'exit 0'
  for one in cargo cargo-zigbuild; do stand_in "$one" "echo \"$one \$*\" >>'$mark'; exit 7"; done
}
stand_in() { rm -f "${path:?}/$1"; printf '#!/bin/sh\n%s\n' "$2" >"$path/$1"; chmod 755 "$path/$1"; }

# without TOOL... -- COMMAND...: it ends with an error before anything is compiled
without() {
  local kept=$BATS_TEST_TMPDIR/kept
  mkdir -p "$kept"
  while [ "$1" != -- ]; do mv "$path/$1" "$kept/" 2>/dev/null || true; shift; done
  shift
  run env PATH="$path" CARGO_TARGET_DIR="$BATS_TEST_TMPDIR/target" "$@"
  if [ -n "$(ls "$kept")" ]; then mv "$kept"/* "$path/"; fi
  [ "$status" -ne 0 ] || { echo "it succeeds: $output"; false; }
  [ ! -e "$mark" ] || { echo "it has run $(cat "$mark")"; false; }
}
says() { for words in "$@"; do [[ $output = *"$words"* ]] || { echo "expected '$words' in: $output"; false; }; done; }

@test "cross/build.sh" {
  without aarch64-linux-gnu-strip llvm-strip -- "$repository/cross/build.sh" --zig rpi4
  says 'there is no aarch64-linux-gnu-strip' 'apt-get install binutils-aarch64-linux-gnu'
  without aarch64-linux-gnu-objdump -- "$repository/cross/build.sh" --zig rpi4
  says 'there is no aarch64-linux-gnu-objdump' 'apt-get install binutils-aarch64-linux-gnu'
  without arm-linux-gnueabihf-strip llvm-strip -- "$repository/cross/build.sh" --zig rpi-zero
  says 'there is no arm-linux-gnueabihf-strip' 'apt-get install binutils-arm-linux-gnueabihf'
  for tool in readelf nm; do
    without "$tool" -- "$repository/cross/build.sh" --zig rpi4
    says "there is no $tool" 'apt-get install binutils'
  done
  # With all of them it compiles, so that the above is not for another reason.
  run env PATH="$path" CARGO_TARGET_DIR="$BATS_TEST_TMPDIR/target" "$repository/cross/build.sh" --zig rpi4
  [ "$status" -eq 7 ] || { echo "$status $output"; false; }
  grep -q 'cargo-zigbuild rustc' "$mark"
}

@test "tests/boot/run, with what the image, the boards and the program need" {
  for one in qemu-system-aarch64:qemu-system-arm mmdebstrap:mmdebstrap mkfs.vfat:dosfstools depmod:kmod mcopy:mtools node:nodejs \
    aarch64-linux-gnu-objdump:binutils-aarch64-linux-gnu; do
    without "${one%:*}" -- env SANEDGE_BOOT_CACHE="$BATS_TEST_TMPDIR/none" "$repository/tests/boot/run" virt
    says "there is no ${one%:*}: apt-get install ${one#*:}"
  done
  [[ $output != *Traceback* ]] || { echo "$output"; false; }
  # What is there already is not wanted again.
  mkdir "$BATS_TEST_TMPDIR/some"
  touch "$BATS_TEST_TMPDIR/some/arm64.img"
  without mmdebstrap aarch64-linux-gnu-objdump mcopy -- env SANEDGE_BOOT_CACHE="$BATS_TEST_TMPDIR/some" SANEDGE_ARM64=/none "$repository/tests/boot/run" virt
  says 'there is no mcopy'
  [[ $output != *mmdebstrap* && $output != *objdump* ]] || { echo "$output"; false; }
}

@test "tests/boot/run on a kernel that starts no foreign program" {
  if [ "$(id -u)" -ne 0 ] || [ ! -d /proc/sys/fs/binfmt_misc ]; then
    echo "# SKIPPED $BATS_TEST_DESCRIPTION: root, to cover /proc/sys/fs/binfmt_misc in a mount namespace" >&3
    [ "${SANEDGE_REQUIRE_ALL:-}" != 1 ]
    skip 'needs root'
  fi
  # shellcheck disable=SC2016 # expanded inside
  run env PATH="$path" SANEDGE_BOOT_CACHE="$BATS_TEST_TMPDIR/none" unshare --mount sh -c 'mount -t tmpfs none /proc/sys/fs/binfmt_misc && exec "$0" virt armhf' "$repository/tests/boot/run"
  [ "$status" -eq 1 ]
  says 'does not start programs of arm64' 'does not start programs of armhf' 'apt-get install qemu-user-static binfmt-support'
  [[ $output != *Traceback* ]] || { echo "$output"; false; }
}
