#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# Every refusal of flash.sh, each without a trace.

load support
setup_file() { make_all; }
setup() { enter; }
teardown() {
  [ ! -d mounted ] || umount mounted 2>/dev/null || true
  free_loops
}

@test "usage: what is missing, unknown or does not go together" {
  run "$flash" --help
  [ "$status" -eq 0 ]
  says "--board" "--dry-run"
  run "$flash" --config sanedge.toml --image image.img --out card.img
  refused 2 "--board is missing"
  run "$flash" --board rpi4 --image image.img --out card.img
  refused 2 "--config is missing"
  run "$flash" --board rpi4 --config sanedge.toml --out card.img
  refused 2 "--image or --host is missing"
  run "$flash" --board rpi4 --config sanedge.toml --image image.img
  refused 2 "--out or --device is missing"
  run "$flash" --board rpi4 --config sanedge.toml --host pi@board --out card.img
  refused 2 "--host is for a running board"
  run "$flash" --bord rpi4
  refused 2 'found `--bord`'
  run "$flash" --board
  refused 2 '`--board` wants a value'
}

@test "an unknown board" {
  flash --board rpi9 --image image.img --out card.img
  refused 1 'no board `rpi9`' rpi4 generic-aarch64
  flash --board ../boards/rpi4 --image image.img --out card.img
  refused 1 'no board'
}

@test "a board that the bundle is not for" {
  rm sanedge.toml && config rpi5 >sanedge.toml
  flash --image image.img --out card.img
  refused 1 'another board' 'board = "rpi4"' 'board = "rpi5"'
}

@test "a bundle with errors" {
  sed 's/"recre.store"/"recre.store", "chat.recre.store"/' "$BATS_FILE_TMPDIR/sanedge.toml" >bad.toml
  flash --config bad.toml --image image.img --out card.img
  refused 1 'no certificate covers `chat.recre.store`' 'the bundle was refused'
}

@test "files that are not there" {
  flash --config none.toml --image image.img --out card.img
  refused 1 'no such file: none.toml'
  flash --image none.img --out card.img
  refused 1 'no such file: none.img'
  flash --binary none --image image.img --out card.img
  refused 1 'no such file: none'
  flash --image image.img --out none/card.img
  refused 1 'no such folder: none'
  : >plain
  run "$flash" --board rpi4 --config sanedge.toml --sanedge plain --binary program --image image.img --out card.img
  refused 1 'plain cannot be run'
}

@test "a program for another processor" {
  flash --binary program.arm --image image.img --out card.img
  refused 1 'program.arm is not for rpi4' '64-bit ARM (arm64)' '32-bit ARM (armhf)'
  elf "$x86_64" program.amd64
  flash --binary program.amd64 --image image.img --out card.img
  refused 1 'x86-64'
  flash --binary sanedge.toml --image image.img --out card.img
  refused 1 'no ELF file'
}

@test "a program for a later 32-bit ARM" {
  # board:Tag_CPU_arch:what the refusal finds, if it refuses
  local one board arch found checked=0
  make_image other.img "$arm"
  for one in rpi-zero:10:ARMv7 rpi-zero:8:ARMv6T2 rpi-zero:14:ARMv8 rpi-zero::'no build attributes' rpi-zero:6 rpi-zero:7 \
    rpi2:14:ARMv8 rpi2::'no build attributes' rpi2:6 rpi2:10; do
    IFS=: read -r board arch found <<<"$one"
    rm -f sanedge.toml && config "$board" >sanedge.toml
    elf_arm "$arch" program.any
    flash --board "$board" --binary program.any --image other.img --out card.img --dry-run
    if [ -n "$found" ]; then
      refused 1 "program.any is not for $board" "$found" "cross/build.sh $board"
    else
      [ "$status" -eq 0 ] || { echo "$one: $output"; false; }
    fi
    checked=$((checked + 1))
  done
  [ "$checked" -eq 10 ]
}

@test "a package for armhf with a program that an ARMv6 board cannot run" {
  stand_in cargo-deb ''
  stand_in cargo 'echo "cargo went to work"; exit 7'
  elf_arm 10 program.v7
  run "$repository/packaging/deb.sh" armhf "$PWD/program.v7" -o .
  [ "$status" -eq 1 ] || { echo "$status $output"; false; }
  says 'program.v7 is not for every armhf board' 'ARMv6' 'ARMv7'
  elf_arm '' program.mute
  run "$repository/packaging/deb.sh" armhf "$PWD/program.mute" -o .
  [ "$status" -eq 1 ]
  says 'found no word of it'
  run "$repository/packaging/deb.sh" armhf "$PWD/program.arm" -o .
  [ "$status" -eq 7 ]
}

@test "no program for the board, no sanedge here" {
  mkdir own
  cp "$flash" own/
  ln -s "$repository"/{boards,flash,systemd,Cargo.toml} own/
  run own/flash.sh --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --image image.img --out card.img
  refused 1 'no program for rpi4' '--binary FILE'
  mkdir own/cross
  printf '#!/bin/sh\n' >own/cross/build.sh
  chmod +x own/cross/build.sh
  CARGO_TARGET_DIR=$PWD/target run own/flash.sh --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --image image.img --out card.img
  refused 1 'cross/build.sh produced no program for rpi4' "$PWD/target/boards/rpi4/sanedge"
  stand_in sanedge 'echo sanedge 0.0.0-other'
  mkdir "$BATS_TEST_TMPDIR/path"
  for one in /usr/bin/* /usr/sbin/* "$BATS_TEST_TMPDIR/bin/sanedge"; do ln -sf "$one" "$BATS_TEST_TMPDIR/path/"; done
  rm -f "$BATS_TEST_TMPDIR/path/cargo"
  sed -i 's|^PATH=.*|PATH='"$BATS_TEST_TMPDIR/path"'|' own/flash.sh
  run own/flash.sh --board rpi4 --config sanedge.toml --binary program --image image.img --out card.img
  refused 1 'there is no sanedge' '--sanedge FILE'
}

@test "an image for another processor" {
  make_image other.img "$arm"
  flash --image other.img --out card.img
  refused 1 'other.img is not for rpi4' 'one for 32-bit ARM (armhf)'
  rm sanedge.toml && config rpi-zero >sanedge.toml
  flash --board rpi-zero --binary program.arm --image image.img --out card.img
  refused 1 'image.img is not for rpi-zero' 'one for 64-bit ARM (arm64)'
  flash --board rpi-zero --binary program.arm --image other.img --out card.img
  [ "$status" -eq 0 ]
}

@test "an image without the two partitions" {
  truncate -s 4M empty.img
  flash --image empty.img --out card.img
  refused 1 'no partition table'
  cp image.img one.img && chmod +w one.img && printf '\0' | dd of=one.img bs=1 seek=$((446 + 16 + 4)) conv=notrunc status=none
  flash --image one.img --out card.img
  refused 1 'no Linux partition second'
  cp image.img gpt.img && printf '\xee' | dd of=gpt.img bs=1 seek=450 conv=notrunc status=none
  flash --image gpt.img --out card.img
  refused 1 'GPT'
  cp image.img linux.img && printf '\x83' | dd of=linux.img bs=1 seek=450 conv=notrunc status=none
  flash --image linux.img --out card.img
  refused 1 'no FAT partition first'
  cp image.img cut.img && truncate -s 20M cut.img
  flash --image cut.img --out card.img
  refused 1 'is truncated'
  cp image.img nofat.img && dd if=/dev/zero of=nofat.img bs=1M seek=1 count=8 conv=notrunc status=none
  flash --image nofat.img --out card.img
  refused 1 'no cmdline.txt'
  cp image.img noext.img && dd if=/dev/zero of=noext.img bs=1M seek=9 count=1 conv=notrunc status=none
  flash --image noext.img --out card.img
  refused 1 'no ext4'
}

@test "an image whose kernel is told nothing" {
  local contents
  for contents in '' '\n' ' \r\nroot=x\n'; do
    cp image.img mute.img
    # shellcheck disable=SC2059
    printf "$contents" >cmdline.txt
    mcopy -o -i "mute.img@@$fat_at" cmdline.txt ::
    flash --image mute.img --out card.img
    refused 1 'the cmdline.txt of mute.img is empty'
  done
}

@test "a key for an image without a user or without sshd" {
  cp image.img nobody.img
  grep -v '^pi:' <<<"$(inside image.img /etc/passwd)" >passwd
  printf 'rm /etc/passwd\ncd /etc\nwrite passwd passwd\n' >commands
  debugfs -w -f commands "nobody.img?offset=$ext4_at" >/dev/null 2>&1
  flash --image nobody.img --out card.img --ssh-key id.pub
  refused 1 'nobody.img has no user to log in as' 'leave --ssh-key out'
  cp image.img nosshd.img
  debugfs -w -R 'rm /usr/lib/systemd/system/ssh.service' "nosshd.img?offset=$ext4_at" 2>/dev/null
  flash --image nosshd.img --out card.img --ssh-key id.pub
  refused 1 'nosshd.img has no sshd' 'leave --ssh-key out'
}

@test "an image with half an account" {
  cp image.img half.img
  printf 'rm /etc/group\ncd /etc\nwrite group group\n' >commands
  echo 'sanedge:x:500:' >group
  debugfs -w -f commands "half.img?offset=$ext4_at" >/dev/null 2>&1
  flash --image half.img --out card.img
  refused 1 'only the user or only the group'
}

@test "an image without room" {
  head -c 30000000 /dev/zero | cat program - >large
  flash --binary large --image image.img --out card.img
  refused 1 'is full'
}

@test "a packed image that is cut off" {
  xz -0 <image.img | head -c 3000 >a.img.xz
  flash --image a.img.xz --out card.img
  refused 1 'cannot be unpacked'
  gzip -1 <image.img | head -c 3000 >a.img.gz
  flash --image a.img.gz --out card.img
  refused 1 'cannot be unpacked'
}

@test "an output that would cost a file" {
  ln -s elsewhere card.link
  flash --image image.img --out card.link
  refused 1 'card.link is not replaced'
  mkdir folder
  flash --image image.img --out folder
  refused 1 'folder is not replaced' directory
  cp image.img own.img
  flash --image own.img --out own.img
  refused 1 'the same file'
  cmp own.img image.img
}

@test "words that are no name, country or key" {
  for name in Edge -edge edge- e.d 'a b' "$(printf 'a%.0s' {1..64})"; do
    flash --image image.img --out card.img --hostname "$name"
    refused 1 "not a valid host name"
  done
  flash --image image.img --out card.img --hostname "$(printf 'a%.0s' {1..63})" --dry-run
  [ "$status" -eq 0 ]
  for country in de DEU D1; do
    flash --image image.img --out card.img --wifi-country "$country"
    refused 1 'not a country code'
  done
  flash --image image.img --out card.img --ssh-key id
  refused 1 'is a private key'
  flash --image image.img --out card.img --ssh-key sanedge.toml
  refused 1 'not an SSH public key'
  flash --image image.img --out card.img --ssh-key none
  refused 1 'no such file: none'
}

@test "a missing tool, with its package" {
  gzip -1 <image.img >image.img.gz
  : >image.img.xz
  : >image.img.zst
  : >image.img.bz2
  : >image.img.zip
  truncate -s 64M card
  loop card
  local checked=0 tool package options
  # A PATH that has everything but the tool.
  mkdir "$BATS_TEST_TMPDIR/path"
  ln -sf /usr/bin/* /usr/sbin/* "$BATS_TEST_TMPDIR/path/"
  sed 's|^PATH=.*|PATH='"$BATS_TEST_TMPDIR/path"'|; s|^here=.*|here='"$repository"'|' "$flash" >alone.sh
  while read -r tool package options; do
    mv "$BATS_TEST_TMPDIR/path/$tool" missing
    # shellcheck disable=SC2086 # words
    run bash alone.sh --config sanedge.toml --sanedge "$(host_sanedge)" ${options//LOOP/$loop}
    refused 1 "\`$tool\` is missing" "apt install $package"
    mv missing "$BATS_TEST_TMPDIR/path/$tool"
    checked=$((checked + 1))
  done <<'TABLE'
debugfs e2fsprogs --board rpi4 --binary program --image image.img --out card.img
e2fsck e2fsprogs --board rpi4 --binary program --image image.img --out card.img
dumpe2fs e2fsprogs --board rpi4 --binary program --image image.img --out card.img
mcopy mtools --board rpi4 --binary program --image image.img --out card.img
xz xz-utils --board rpi4 --binary program --image image.img.xz --out card.img
gzip gzip --board rpi4 --binary program --image image.img.gz --out card.img
zstd zstd --board rpi4 --binary program --image image.img.zst --out card.img
bzip2 bzip2 --board rpi4 --binary program --image image.img.bz2 --out card.img
unzip unzip --board rpi4 --binary program --image image.img.zip --out card.img
lsblk util-linux --board rpi4 --binary program --image image.img --device LOOP
blockdev util-linux --board rpi4 --binary program --image image.img --device LOOP
perl perl-base --board rpi4 --binary program --image image.img --device LOOP
readelf binutils --board rpi-zero --binary program.arm --image image.img --out card.img
setsid util-linux --board rpi4 --image image.img --out card.img
ssh openssh-client --board rpi4 --binary program --host pi@board
tar tar --board rpi4 --binary program --host pi@board
TABLE
  [ "$checked" -eq "$(cat "$repository"/flash/*.sh | grep -Ec '(^| )need [a-z0-9]+ [a-z0-9-]+( ;;)?$')" ] || { echo "$checked of them"; false; }
}

@test "a file system that nobody can mend" {
  cp image.img torn.img
  # The root folder's inode, zeroed.
  debugfs -w -R 'clri <2>' "torn.img?offset=$ext4_at" 2>/dev/null
  flash --image torn.img --out card.img
  refused 1 'is damaged'
}

@test "what does not come out as it went in" {
  # debugfs never says by its exit code that it failed: a stand-in that writes nothing must be noticed.
  stand_in debugfs 'for word in "$@"; do [ "$word" != -w ] || exit 0; done; exec "$real" "$@"'
  flash --image image.img --out card.img
  refused 1 'was not written correctly'
  stand_in debugfs 'exec "$real" "$@"'
  # The second check, which changes nothing, is the last word.
  stand_in e2fsck 'case "$1" in -fn) echo "UNEXPECTED INCONSISTENCY"; exit 4 ;; esac; exec "$real" "$@"'
  flash --image image.img --out card.img
  refused 1 'the changed root file system has errors' 'UNEXPECTED INCONSISTENCY'
  stand_in e2fsck 'exec "$real" "$@"'
  stand_in mcopy 'case "$*" in *put.cmdline.txt*) exit 0 ;; esac; exec "$real" "$@"'
  flash --image image.img --out card.img
  refused 1 'cmdline.txt was not written to the boot partition'
}

@test "devices: no disk, a partition, too small, not removable" {
  flash --image image.img --device image.img
  refused 1 'image.img is not a disk' 'regular file'
  flash --image image.img --device /dev/null
  refused 1 '/dev/null is not a disk'
  truncate -s 16M small
  loop small
  flash --image image.img --device "$loop"
  refused 1 'does not say that it is removable' --force-device
  flash --image image.img --device "$loop" --force-device
  refused 1 'too small' "16 MiB"
  disk "part 1 1 0" "\n" ''
  flash --image image.img --device "$loop"
  refused 1 'not a whole disk' part
}

@test "devices: mounted" {
  truncate -s 48M card
  mkfs.ext4 -q card
  loop card
  mkdir mounted
  mount "$loop" mounted 2>/dev/null || { skip_loudly "no mounts here"; return; }
  flash --image image.img --device "$loop" --force-device
  refused 1 'is mounted' "$PWD/mounted" umount
  umount mounted
}

# What the kernel says of a disk, said by a stand-in: no test may depend on the disk that it runs on.
disk() {
  stand_in lsblk 'case "$*" in
  *TYPE,RM,HOTPLUG,RO*) echo '"'$1'"' ;;
  *MOUNTPOINTS*) printf '"'$2'"' ;;
  *TYPE,NAME*) printf "disk sda\n'"${3:-part}"' x\n" ;;
  *) echo "a card" ;;
esac'
}

@test "devices: the disk of this system, a volume, a locked card" {
  truncate -s 64M card
  loop card
  for point in / /boot/firmware /home '[SWAP]'; do
    disk "disk 1 1 0" "\n$point\n" ''
    flash --image image.img --device "$loop" --force-device
    refused 1 'is the disk of this system' "$point is on it"
  done
  disk "disk 1 1 0" "\n\n" crypt
  flash --image image.img --device "$loop" --force-device
  refused 1 'is in use' crypt
  disk "disk 1 1 1" "\n\n" ''
  flash --image image.img --device "$loop"
  refused 1 'is read-only'
  disk "disk 1 1 0" '\n/media/a\\x0a/mnt/b\n' ''
  flash --image image.img --device "$loop"
  refused 1 'is mounted' '/media/a /mnt/b'
}

@test "devices: what lsblk does not say is no reason to write" {
  truncate -s 64M card
  loop card
  local fails
  for fails in TYPE,RM,HOTPLUG,RO MOUNTPOINT TYPE,NAME SIZE; do
    disk "disk 1 1 0" "\n\n" ''
    sed -i '2a case "$*" in *"-o '"$fails"' "* | *'"$fails"'S*) echo "lsblk: it failed" >&2; exit 1 ;; esac' "$BATS_TEST_TMPDIR/bin/lsblk"
    flash --image image.img --device "$loop"
    refused 1 "cannot find out how $loop is used" "lsblk: it failed" "lsblk -o $fails"
  done
  # util-linux before 2.37 has the singular alone.
  disk "disk 1 1 0" "\n/media/card\n" ''
  sed -i '2a case "$*" in *MOUNTPOINTS*) exit 1 ;; esac' "$BATS_TEST_TMPDIR/bin/lsblk"
  sed -i 's/MOUNTPOINTS\*) printf/MOUNTPOINT*) printf/' "$BATS_TEST_TMPDIR/bin/lsblk"
  flash --image image.img --device "$loop"
  refused 1 "$loop is mounted" '/media/card'
}

@test "devices: without rights to it" {
  [ "$(id -u)" -eq 0 ] || { skip_loudly "wants root, to become nobody"; return; }
  truncate -s 64M card
  loop card
  disk "disk 1 1 0" "\n\n" ''
  chmod a+rx "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" 2>/dev/null || true
  run setpriv --reuid=65534 --regid=65534 --clear-groups "$flash" --board rpi4 --config "$PWD/sanedge.toml" \
    --sanedge /bin/true --binary program --image image.img --device "$loop"
  refused 1 'nobody may not write to'
}
