#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154,SC2016  # variables of support.bash; words that only look like expansions
# Writing a card: a loop device stands for it.

load support
setup_file() { make_all; }
setup() { enter; }
teardown() {
  [ ! -d mounted ] || umount mounted 2>/dev/null || true
  free_loops
}

@test "a card gets the image, and what it holds is compared" {
  truncate -s 48M card
  loop card
  flash --image image.img --out card.img --device "$loop" --force-device
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "SHA-256 $(sha256sum <card.img | cut -d' ' -f1)"
  cmp -n "$image_bytes" card.img "$loop"
}

@test "without --out nothing stays but the card" {
  truncate -s "$image_bytes" card # just large enough
  loop card
  flash --image image.img --device "$loop" --force-device
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  nothing_left
  is_clean "$loop"
  is_in "$loop" /etc/sanedge/sanedge.bundle
}

@test "a dry run leaves the card as it is" {
  head -c 48M /dev/urandom >card
  sha256sum <card >before
  loop card
  flash --image image.img --device "$loop" --force-device --dry-run
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "would write $loop" "read $loop back"
  sha256sum <"$loop" | diff before -
}

@test "a card that forgets is found out" {
  truncate -s 48M card
  loop card
  # Between writing and reading back a sector changes.
  stand_in blockdev 'printf x | dd of='"$loop"' bs=1 seek=5000000 conv=notrunc,fsync status=none; exec "$real" "$@"'
  flash --image image.img --device "$loop" --force-device
  [ "$status" -eq 1 ]
  says "returns other data" "write it again"
  nothing_left
}

@test "a card that cannot be read back is found out, and nobody waits for it" {
  truncate -s 48M card
  loop card
  stand_in dd 'case "$*" in *"if='"$loop"'"*) echo "dd: failed to open" >&2; exit 1 ;; esac; exec "$real" "$@"'
  run timeout 60 "$flash" --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --binary program \
    --image image.img --device "$loop" --force-device
  [ "$status" -eq 1 ] || { echo "$status $output"; false; }
  says "$loop cannot be read back" "dd: failed to open" "write it again"
  nothing_left
}

@test "a card that is pulled while it is written does not look whole" {
  cp image.img card # an older system on it
  truncate -s 48M card
  loop card
  stand_in dd '"$real" "$@"; case "$*" in *seek=*) kill -TERM "$PPID" ;; esac'
  flash --image image.img --device "$loop" --force-device
  [ "$status" -eq 143 ] || { echo "$status $output"; false; }
  says "not complete"
  [ "$(od -An -tx1 -j 510 -N 2 "$loop" | tr -d ' \n')" = 0000 ]
  nothing_left
}

# --- a card in use without a mount point -----------------------------------------------------------------------------

# in_use CODE TEXT…: refused, by a dry run as well, and not a byte of the card is changed
in_use() {
  local dry
  sum=$(head -c 65536 "$loop" | sha256sum)
  for dry in '' --dry-run; do
    flash --image image.img --device "$loop" --force-device $dry
    refused 1 "[$1]" "${@:2}" || return
  done
  [ "$(head -c 65536 "$loop" | sha256sum)" = "$sum" ]
}
# written: the healthy twin
written() {
  flash --image image.img --device "$loop" --force-device
  [ "$status" -eq 0 ] || { echo "$output"; return 1; }
}

@test "the second member of a mounted btrfs" {
  command -v mkfs.btrfs >/dev/null || { skip_loudly "no mkfs.btrfs (Debian: btrfs-progs)"; return; }
  truncate -s 128M one card
  loop one
  local first=$loop
  loop card
  mkfs.btrfs -q -f "$first" "$loop"
  mkdir mounted
  mount -t btrfs "$first" mounted 2>/dev/null || { skip_loudly "no btrfs in this kernel"; return; }
  in_use device-btrfs "${loop##*/}" || { umount mounted; false; }
  umount mounted
  written
}

@test "the journal of a mounted ext4" {
  truncate -s 64M one card
  loop one
  local first=$loop
  loop card
  mke2fs -q -O journal_dev -b 4096 "$loop"
  mkfs.ext4 -q -b 4096 -J "device=$loop" "$first"
  mkdir mounted
  mount "$first" mounted 2>/dev/null || { skip_loudly "no mounts here"; return; }
  in_use device-journal "jbd2" || { umount mounted; false; }
  umount mounted
  written
}

@test "swap" {
  truncate -s 64M card
  loop card
  chmod 600 card
  mkswap -q "$loop" 2>/dev/null
  swapon "$loop" 2>/dev/null || { echo "# swap cannot be tried here" >&3; skip "no swap in this kernel"; }
  in_use device-system '[SWAP]' || { swapoff "$loop"; false; }
  # An lsblk that does not say so is not the only one that is asked.
  stand_in lsblk '"$real" "$@" | sed "s/\[SWAP\]//g"'
  in_use device-swap "swapoff $loop" || { swapoff "$loop"; false; }
  swapoff "$loop"
  written
}

@test "a mount in another namespace" {
  truncate -s 64M card
  mkfs.ext4 -q card
  loop card
  mkdir mounted
  unshare --mount --propagation private sh -c 'mount "$1" mounted && touch mounted/ready && sleep 60' - "$loop" 3>&- &
  local other=$!
  for _ in {1..100}; do grep -qs "$loop" "/proc/$other/mountinfo" && break; sleep 0.1; done
  in_use device-namespace "$PWD/mounted" || { kill "$other"; false; }
  pkill -P "$other" 2>/dev/null || true
  kill "$other" 2>/dev/null || true
  wait "$other" || true
  for _ in {1..100}; do grep -qs " $PWD/mounted " /proc/[0-9]*/mountinfo || break; sleep 0.1; done
  written
}

@test "another program that has it open for writing, or exclusively" {
  truncate -s 64M card
  loop card
  exec {open}<>"$loop"
  in_use device-open "process $$"
  exec {open}>&-
  # Reading alone harms nobody.
  exec {open}<"$loop"
  written
  exec {open}<&-
  perl -e 'use Fcntl; sysopen(my $d, $ARGV[0], O_RDONLY|O_EXCL) or die; open(my $r, ">", "held"); sleep 60' "$loop" 3>&- &
  local holder=$!
  for _ in {1..100}; do [ ! -e held ] || break; sleep 0.1; done
  in_use device-open "perl" || { kill "$holder"; false; }
  # Where its descriptors cannot be seen, the kernel still says so.
  stand_in find 'exit 0'
  in_use device-busy || { kill "$holder"; false; }
  kill "$holder"
  wait "$holder" || true
  written
}

@test "a loop device on the card, and another one on the same file" {
  truncate -s 64M card
  loop card
  local card=$loop
  loop "$card"
  local upper=$loop
  loop=$card
  in_use device-loop "$upper"
  losetup -d "$upper"
  sed -i '$d' "$BATS_TEST_TMPDIR/loops"
  loop card
  upper=$loop loop=$card
  in_use device-loop "$upper"
  losetup -d "$upper"
  sed -i '$d' "$BATS_TEST_TMPDIR/loops"
  written
}

@test "a member of a volume group or an array" {
  truncate -s 64M card
  loop card
  # The label of LVM2: LABELONE at the second sector, with its checksum.
  perl -e 'my $rest = pack("V a8", 32, "LVM2 001") . ("a" x 32); $rest .= "\0" x (512 - 20 - length $rest);
    my $crc = 0xf597a6cf; for my $byte (unpack "C*", $rest) { $crc ^= $byte; for (1..8) { $crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 } }
    print "LABELONE", pack("VVV", 1, 0, $crc), $rest' | dd of="$loop" bs=512 seek=1 conv=notrunc,fsync status=none
  [ "$(blkid -p -o value -s TYPE "$loop")" = LVM2_member ]
  in_use device-member LVM2_member "wipefs -a $loop"
  wipefs -qa "$loop"
  written
}

@test "the card is locked until it is compared, and one that is locked is not written" {
  truncate -s 64M card
  loop card
  # Who looks while it is read back finds it locked: so udev does.
  stand_in blockdev 'flock -n -s '"$loop"' true && touch unlocked; touch looked; exec "$real" "$@"'
  written
  [ -e looked ]
  [ ! -e unlocked ]
  flock -n -s "$loop" true
  rm "$BATS_TEST_TMPDIR/bin/blockdev"
  flock -x "$loop" sleep 60 3>&- &
  local holder=$!
  for _ in {1..100}; do flock -n -s "$loop" true || break; sleep 0.1; done
  flash --image image.img --device "$loop" --force-device
  pkill -P "$holder" 2>/dev/null || true
  kill "$holder" 2>/dev/null || true
  refused 1 '[device-locked]' "locked by another program"
}

@test "sectors of 4,096 bytes" {
  truncate -s 64M card
  loop card
  losetup -d "$loop"
  loop=$(losetup --find --show --sector-size 4096 card) || { skip_loudly "no loop devices with large sectors"; return; }
  [ "$(blockdev --getss "$loop")" = 4096 ]
  in_use device-sector "sectors of 4096 bytes"
  losetup -d "$loop"
  loop=$(losetup --find --show --sector-size 512 card)
  written
}

@test "less memory than it says: what is beyond is dropped, or lies where other blocks are" {
  truncate -s 64M card
  loop card
  # What is read back from a card of 32 MiB that says 64: nothing beyond, or the same cells again.
  stand_in dd 'case "$*" in *"if='"$loop"' "*skip=*) for word in "$@"; do case $word in skip=*) at=${word#skip=} ;; esac; done
      if [ "$at" -ge 33554432 ]; then
        if [ -e drops ]; then exec head -c 4096 /dev/zero; fi
        exec "$real" if='"$loop"' bs=4096 count=1 skip=$((at % 33554432)) iflag=skip_bytes,direct status=none
      fi ;; esac
    exec "$real" "$@"'
  touch drops
  flash --image image.img --device "$loop" --force-device
  refused 1 '[device-fake]' 'does not store what is written' "of 67108864"
  rm drops
  flash --image image.img --device "$loop" --force-device
  refused 1 '[device-fake]'
  rm "$BATS_TEST_TMPDIR/bin/dd"
  written
}

@test "a card that takes writes and keeps none, and one that refuses them" {
  truncate -s 64M card
  loop card
  stand_in dd 'case "$*" in *"if='"$loop"' "*skip=*) exec head -c 4096 /dev/zero ;; esac; exec "$real" "$@"'
  flash --image image.img --device "$loop" --force-device
  refused 1 '[device-fake]' 'worn out'
  stand_in dd 'case "$*" in *"of='"$loop"'"*seek=*) echo "dd: Input/output error" >&2; exit 1 ;; esac; exec "$real" "$@"'
  flash --image image.img --device "$loop" --force-device
  refused 1 '[device-unwritable]' 'Input/output error' 'write it again'
  losetup -d "$loop"
  loop=$(losetup --find --show --read-only card)
  in_use device-read-only "move the switch"
  losetup -d "$loop"
  loop=$(losetup --find --show card)
  rm "$BATS_TEST_TMPDIR/bin/dd"
  written
}
