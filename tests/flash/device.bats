#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# Writing a card: a loop device stands for it.

load support
setup_file() { make_all; }
setup() { enter; }
teardown() { free_loops; }

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
  says "gives back something else" "write it again"
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
