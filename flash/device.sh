# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# The card.

# Everything that speaks against writing to the device. Looked at again just before it is written.
check_device() {
  [ -n "$device" ] || return 0
  [ -b "$device" ] ||
    refuse "$device is no disk" "a block device, as /dev/sdX or /dev/mmcblk0" \
      "$(stat -Lc %F -- "$device" 2>/dev/null || echo nothing)" "lsblk shows what there is"
  device=$(realpath -- "$device")
  local said type removable hotplug read_only
  said=$(ask_device -d TYPE,RM,HOTPLUG,RO)
  read -r type removable hotplug read_only <<<"$said" || true
  case $type in
    disk | loop) ;;
    *) refuse "$device is not a whole disk" "the device of the card itself, without a partition's number" "$type" \
      "lsblk shows what there is" ;;
  esac
  local mounted system=''
  # All of them since util-linux 2.37; before that one for each partition.
  mounted=$(lsblk -nro MOUNTPOINTS -- "$device" 2>/dev/null) || mounted=$(ask_device MOUNTPOINT)
  mounted=$(sed '/./!d' <<<"${mounted//\\x0a/$'\n'}" | tr '\n' ' ')
  for point in $mounted; do
    case $point in
      / | /boot | /boot/* | /usr | /usr/* | /var | /var/* | /home | '[SWAP]') system=$point ;;
    esac
  done
  if [ -n "$system" ]; then
    refuse "$device is the disk of this system" "a card" "$system is on it" "lsblk shows which device the card is"
  fi
  if [ -n "$mounted" ]; then
    refuse "$device is mounted" "a card that nothing uses" "$mounted" "umount ${mounted% }"
  fi
  said=$(ask_device TYPE,NAME)
  if grep -Evq '^(disk|part|loop) ' <<<"$said"; then
    refuse "$device is in use" "a card that nothing uses" "$(tail -n +2 <<<"$said" | tr '\n' ' ')" \
      "close the volume that stands on it"
  fi
  [ "$read_only" = 0 ] ||
    refuse "$device is read-only" "a card that can be written" "" "move the switch on the card's side"
  if [ "$removable$hotplug" = 00 ] && [ -z "$force_device" ]; then
    refuse "$device does not say that it is removable" "a card or a USB stick" "$(describe_device)" \
      "look again; if it is the right one, add --force-device"
  fi
  [ -n "$dry" ] || [ -w "$device" ] || refuse "$device cannot be written by $(id -un)" "rights to write it" "" "sudo ./flash.sh …"
}
# ask_device [-d] COLUMNS: what nobody can say of a device is no reason to write to it
ask_device() {
  lsblk -nr "${@:1:$#-1}" -o "${!#}" -- "$device" ||
    refuse "it is not known how $device is used" "what \`lsblk -o ${!#}\` says of it" "lsblk failed, as above" "apt install util-linux"
}
describe_device() { lsblk -dnro VENDOR,MODEL,SIZE,TRAN -- "$device" | sed 's/\\x20/ /g; s/  */ /g; s/^ //'; }

device_holds() {
  local room wanted=$1
  room=$(ask_device -bd SIZE)
  [ "$room" -ge "$wanted" ] ||
    refuse "$device is too small" "$(mebibytes "$wanted") for the image" "$(mebibytes "$room")" "take a larger card"
}


# Its first MiB is emptied at once and written last: a card that was pulled too early has no partition table.
write_device() {
  [ -n "$device" ] || return 0
  local source=${unfinished:-$out} size mib=1048576
  step "write $device ($(describe_device)), erasing it"
  step "read $device back and compare SHA-256"
  [ -z "$dry" ] || return 0
  check_device
  size=$(size_of "$source")
  card_begun=1
  dd if=/dev/zero of="$device" bs=$mib count=1 conv=fsync,nocreat status=none
  watched writing "$size" 1 dd if="$source" of="$device" bs=4M skip=$mib seek=$mib iflag=skip_bytes \
    oflag=seek_bytes,direct conv=fsync,nocreat status=none
  dd if="$source" of="$device" bs=$mib count=1 conv=fsync,nocreat status=none
  local wanted found
  wanted=$(sha256sum <"$source")
  read_back "$size"
  found=$(cat "$work/sum")
  [ "$wanted" = "$found" ] ||
    refuse "$device gives back something else than was written" "SHA-256 ${wanted%% *}" "${found%% *}" \
      "the card is broken or smaller than it says: take another"
  card_begun=
  detail "SHA-256 ${wanted%% *}"
  note "the card holds private keys"
}

# From the card itself, not from memory.
read_back() {
  local direct='' sum pipe
  blockdev --flushbufs "$device" 2>/dev/null || direct=,direct
  exec {pipe}> >(sha256sum >"$work/sum")
  sum=$!
  watched reading "$1" 0 dd if="$device" bs=4M count="$1" iflag="count_bytes$direct" status=none >&"$pipe" ||
    refuse "$device cannot be read back" "what was written" "see above" "take another card, or another reader for it"
  exec {pipe}>&-
  wait "$sum"
}
