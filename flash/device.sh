# shellcheck shell=bash disable=SC2015,SC2034,SC2086,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# The card: checks whether it may be written, then writes and compares it, held exclusively throughout.

check_device() {
  [ -n "$device" ] || return 0
  [ -b "$device" ] || refuse device-kind "$(stat -Lc %F -- "$device" 2>/dev/null || echo nothing)" "$device"
  device=$(realpath -- "$device")
  check_device_use
  local answer
  # In use in another way: the kernel does not permit an exclusive open.
  answer=$(holder_of_card only-ask </dev/null)
  [ "$answer" = busy ] || return 0
  answer=$(opener '[012]') # it does not say who has it exclusively, but few have it open at all
  [ -z "$answer" ] || refuse device-open "$answer" "$device"
  refuse device-busy "O_EXCL: device or resource busy" "$device"
}

# Every kind of use that can be named. Checked again just before the card is written.
check_device_use() {
  local said type removable hotplug read_only
  said=$(ask_device -d TYPE,RM,HOTPLUG,RO)
  read -r type removable hotplug read_only <<<"$said" || true
  case $type in
    disk | loop) ;;
    *) refuse device-part "$type" "$device" ;;
  esac
  check_device_mounts
  check_device_volumes
  local name
  for name in $(device_names); do check_device_name "$name"; done
  check_device_others
  [ "$read_only" = 0 ] || refuse device-read-only "" "$device"
  local sector
  sector=$(cat "/sys/class/block/${device##*/}/queue/logical_block_size" 2>/dev/null) || sector=512
  [ "$sector" = 512 ] || refuse device-sector "$sector" "$device" "$sector"
  if [ "$removable$hotplug" = 00 ] && [ -z "$force_device" ]; then refuse device-removable "$(describe_device)" "$device"; fi
  [ -n "$dry" ] || [ -w "$device" ] || refuse device-rights "" "$device" "$(id -un)"
}

check_device_mounts() {
  local mounted point system=''
  # All mount points with util-linux 2.37 and later; before, one for each partition.
  mounted=$(lsblk -nro MOUNTPOINTS -- "$device" 2>/dev/null) || mounted=$(ask_device MOUNTPOINT)
  mounted=$(sed '/./!d' <<<"${mounted//\\x0a/$'\n'}" | tr '\n' ' ')
  for point in $mounted; do
    case $point in
      / | /boot | /boot/* | /usr | /usr/* | /var | /var/* | /home | '[SWAP]') system=$point ;;
    esac
  done
  [ -z "$system" ] || refuse device-system "$system is on it" "$device"
  [ -z "$mounted" ] || refuse device-mounted "$mounted" "$device" "${mounted% }"
}

check_device_volumes() {
  local said
  said=$(ask_device TYPE,NAME)
  if grep -Evq '^(disk|part|loop) ' <<<"$said"; then refuse device-volume "$(tail -n +2 <<<"$said" | tr '\n' ' ')" "$device"; fi
  local name kind
  for name in $(device_names); do
    # From the device if it can be read, else from udev.
    kind=$(blkid -p -o value -s TYPE -- "/dev/$name" 2>/dev/null) || kind=$(lsblk -dnro FSTYPE -- "/dev/$name" 2>/dev/null) || true
    case $kind in
      LVM2_member | *_raid_member | zfs_member | bcache) refuse device-member "$kind on /dev/$name" "$device" "/dev/$name" ;;
    esac
  done
}

# The kernel's names of the disk and its partitions, and of what is below a loop device on a disk.
device_names() {
  local name=${device##*/} partition below
  echo "$name"
  for partition in "/sys/class/block/$name/"*/partition; do
    [ -e "$partition" ] || continue
    partition=${partition%/partition}
    echo "${partition##*/}"
  done
  below=$(cat "/sys/class/block/$name/loop/backing_file" 2>/dev/null) || return 0
  [ ! -b "$below" ] || basename "$(realpath -- "$below")"
}

check_device_name() {
  local name=$1 found loop backing own
  for found in "/sys/class/block/$name/holders/"*; do
    [ ! -e "$found" ] || refuse device-volume "${found##*/} on $name" "$device"
  done
  for found in /sys/fs/btrfs/*/devices/"$name"; do
    [ ! -e "$found" ] || refuse device-btrfs "$name of the btrfs $(cut -d/ -f5 <<<"$found")" "$device"
  done
  # An ext4's own journal appears as NAME-INODE, one on another device as the device's NAME.
  [ ! -e "/proc/fs/jbd2/$name" ] || refuse device-journal "/proc/fs/jbd2/$name" "$device"
  ! grep -q "^/dev/$name " /proc/swaps 2>/dev/null || refuse device-swap "/dev/$name in /proc/swaps" "$device" "/dev/$name"
  own=$(cat "/sys/class/block/$name/loop/backing_file" 2>/dev/null) || own=''
  for loop in /sys/class/block/loop*/loop/backing_file; do
    backing=$(cat "$loop" 2>/dev/null) || continue # it may be gone by now
    loop=${loop#/sys/class/block/} loop=/dev/${loop%/loop/backing_file}
    [ "$loop" != "/dev/$name" ] || continue
    if [ "$backing" -ef "/dev/$name" ] || { [ -n "$own" ] && [ "$backing" = "$own" ] && [ "$loop" != "$device" ]; }; then
      refuse device-loop "$loop on $backing" "$device" "$loop"
    fi
  done
}

# Other processes: mounts in their namespaces, and descriptors that can write. Only root sees all of them.
check_device_others() {
  local names numbers name pid found
  names=$(device_names | sed 's|^|/dev/|' | tr '\n' ' ')
  numbers=$(for name in $(device_names); do cat "/sys/class/block/$name/dev"; done | tr '\n' ' ')
  found=$(cat /proc/[0-9]*/mountinfo 2>/dev/null | sort -u | awk -v names=" $names" -v numbers=" $numbers" '
    { source = $0; sub(/.* - [^ ]* /, "", source); sub(/ .*/, "", source) }
    index(numbers, " " $3 " ") || index(names, " " source " ") { print $5; exit }') || true # processes end meanwhile
  if [ -n "$found" ]; then
    pid=$(grep -ls " $found " /proc/[0-9]*/mountinfo | head -n 1 | cut -d/ -f3) || true
    refuse device-namespace "$found of process ${pid:-?} $(cat "/proc/${pid:-0}/comm" 2>/dev/null)" "$device"
  fi
  found=$(opener '[12]')
  [ -z "$found" ] || refuse device-open "$found" "$device"
}
# opener DIGIT: a process that has the disk or a partition open; the last digit of its flags is 0 where it reads, 1 or 2 where it writes
opener() {
  local name found pid
  for name in $(device_names); do
    while read -r found; do
      pid=$(cut -d/ -f3 <<<"$found")
      [ "$pid" != $$ ] && grep -q "^flags:.*$1\$" "/proc/$pid/fdinfo/${found##*/}" 2>/dev/null || continue
      echo "process $pid $(cat "/proc/$pid/comm" 2>/dev/null)"
      return
    done < <(find /proc/[0-9]*/fd -lname "/dev/$name" 2>/dev/null)
  done
}

# ask_device [-d] COLUMNS: a device for which this is unknown is not written
ask_device() { lsblk -nr "${@:1:$#-1}" -o "${!#}" -- "$device" || refuse device-unknown "lsblk failed, as above" "$device" "${!#}"; }
describe_device() { lsblk -dnro VENDOR,MODEL,SIZE,TRAN -- "$device" | sed 's/\\x20/ /g; s/  */ /g; s/^ //'; }

device_holds() {
  local room wanted=$1
  room=$(ask_device -bd SIZE)
  [ "$room" -ge "$wanted" ] || refuse device-small "$(mebibytes "$room")" "$device" "$(mebibytes "$wanted")"
}

# --- the hold --------------------------------------------------------------------------------------------------------

# Holds the card exclusively, with its lock, until stdin ends: udev and automounters ignore a locked disk. Prints `held`, `busy`, `locked` or
# the error; then reads lines of OFFSET FILE, and writes each file synchronously to the card.
holder_of_card() {
  perl -e '
    use Fcntl qw(:DEFAULT :flock);
    use Errno qw(EBUSY);
    $| = 1;
    my ($device, $only_ask) = @ARGV;
    my $mode = $only_ask ? O_RDONLY : O_RDWR | O_SYNC;
    sysopen(my $card, $device, $mode | O_EXCL) or do { print $! == EBUSY ? "busy\n" : "no: $!\n"; exit };
    exit if $only_ask;
    for (my $tries = 0; !flock($card, LOCK_EX | LOCK_NB); select(undef, undef, undef, 0.2)) {
      if ($tries++ == 50) { print "locked\n"; exit }
    }
    print "held\n";
    while (my $line = <STDIN>) {
      my ($at, $file) = $line =~ /^(\d+) (.*)$/ or next;
      my ($from, $bytes);
      open($from, "<:raw", $file) and read($from, $bytes, 1 << 20);
      my $done = sysseek($card, $at, 0) && syswrite($card, $bytes);
      print $done ? "written\n" : "no: $!\n";
    }' "$device" ${1:+1}
}
hold_card() {
  local answer
  coproc CARD { holder_of_card; }
  read -r answer <&"${CARD[0]}" || answer=''
  case $answer in
    held) ;;
    busy) refuse device-busy "O_EXCL: device or resource busy" "$device" ;;
    locked) refuse device-locked "flock: locked for more than 10 s" "$device" ;;
    *) refuse device-unwritable "${answer#no: }" "$device" ;;
  esac
}
release_card() {
  eval "exec ${CARD[1]}>&-"
  wait "$CARD_PID" 2>/dev/null || true
}

# --- writing ---------------------------------------------------------------------------------------------------------

# The first MiB is cleared first and written last: a card that is removed too early has no partition table.
write_device() {
  [ -n "$device" ] || return 0
  local source=${unfinished:-$out} size mib=1048576
  step "write $device ($(describe_device)), erasing it"
  step "read $device back and compare SHA-256"
  [ -z "$dry" ] || return 0
  check_device_use
  hold_card
  size=$(size_of "$source")
  device_holds "$size"
  card_begun=1
  keeps_its_end "$size"
  dd if=/dev/zero of="$device" bs=$mib count=1 conv=fsync,nocreat status=none || unwritable
  watched writing "$size" 1 dd if="$source" of="$device" bs=4M skip=$mib seek=$mib iflag=skip_bytes \
    oflag=seek_bytes,direct conv=fsync,nocreat status=none || unwritable
  dd if="$source" of="$device" bs=$mib count=1 conv=fsync,nocreat status=none || unwritable
  local wanted found
  wanted=$(sha256sum <"$source")
  read_back "$size"
  found=$(cat "$work/sum")
  [ "$wanted" = "$found" ] || refuse device-differs "${found%% *}" "$device" "${wanted%% *}"
  card_begun=
  release_card
  detail "SHA-256 ${wanted%% *}"
  note "the card contains private keys"
}
unwritable() { refuse device-unwritable "see above" "$device"; }

# Writes blocks at the end of the card, at the end of the image and at each power of two, then reads all of them. A card with less memory than
# it states loses the last ones or stores them in place of others, and a worn-out card stores none.
keeps_its_end() {
  local total size=$1 at answer offsets
  total=$(ask_device -bd SIZE)
  offsets="$(((total - 4096) / 4096 * 4096)) $(((size - 4096) / 4096 * 4096))"
  for ((at = 1048576; at < total - 8192; at *= 2)); do offsets+=" $at"; done
  offsets=$(printf '%s\n' $offsets | sort -un)
  for at in $offsets; do
    # 4,096 bytes that are different at each place and in each run
    printf "%4096s" "sanedge $$ $RANDOM$RANDOM $at" >"$work/block.$at"
    echo "$at $work/block.$at" >&"${CARD[1]}"
    read -r answer <&"${CARD[0]}" || answer='no: it is gone'
    [ "$answer" = written ] || refuse device-unwritable "${answer#no: } at byte $at of $total" "$device"
  done
  for at in $offsets; do
    dd if="$device" bs=4096 count=1 skip="$at" iflag=skip_bytes,direct status=none >"$work/block" || refuse device-unreadable "see above" "$device"
    cmp -s "$work/block" "$work/block.$at" || refuse device-fake "other bytes at byte $at of $total" "$device"
    rm "$work/block.$at"
  done
}

# Reads from the card itself, not from the page cache.
read_back() {
  local direct='' sum pipe
  blockdev --flushbufs "$device" 2>/dev/null || direct=,direct
  exec {pipe}> >(sha256sum >"$work/sum")
  sum=$!
  watched reading "$1" 0 dd if="$device" bs=4M count="$1" iflag="count_bytes$direct" status=none >&"$pipe" ||
    refuse device-unreadable "see above" "$device"
  exec {pipe}>&-
  wait "$sum"
}
