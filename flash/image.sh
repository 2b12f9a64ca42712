# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# The image: unpacked, checked, changed, read back.

# The kind of a file by its first bytes, because its name may be wrong. If they are unknown, the name decides.
kind_of() {
  local bytes
  bytes=$(head -c 8 -- "$1" | od -An -tx1 | tr -d ' \n')
  case $bytes in
    fd377a585a00*) echo xz ;;
    1f8b*) echo gz ;;
    28b52ffd*) echo zst ;;
    425a68*) echo bz2 ;;
    504b0304*) echo zip ;;
    377abcaf271c*) echo '7z archive' ;;
    526172211a07*) echo 'RAR archive' ;;
    514649fb*) echo 'disk of QEMU (qcow2)' ;;
    *)
      if [ "$(tail -c +258 -- "$1" | head -c 5 | tr -d '\0')" = ustar ]; then echo 'tar archive'
      elif head -c 512 -- "$1" | tr -d '\0' | grep -Eiq '^[[:space:]]*(<!doctype|<html|<\?xml)'; then echo 'web page'
      elif head -c 64 -- "$1" | tr -d '\0' | grep -q '^version https://git-lfs'; then echo 'pointer of Git LFS'
      else
        case $1 in
          *.xz) echo xz ;;
          *.gz) echo gz ;;
          *.zst) echo zst ;;
          *.bz2) echo bz2 ;;
          *.zip) echo zip ;;
          *) echo image ;;
        esac
      fi
      ;;
  esac
}
check_image_kind() {
  case $image_kind in
    image | xz | gz | zst | bz2 | zip) ;;
    *archive) refuse image-kind "a $image_kind" "$image" "unpack it, and give the image inside to --image" ;;
    *page | *LFS) refuse image-kind "a $image_kind" "$image" "download it again, by the link of the file itself" ;;
    *) refuse image-kind "a $image_kind" "$image" "convert it: qemu-img convert -O raw" ;;
  esac
}
# The only image in a zip, as raspberrypi.com offered them.
zip_member() {
  local members
  members=$(unzip -Z1 -- "$image" '*.img' 2>/dev/null) || true
  [ "$(grep -c . <<<"$members")" -eq 1 ] || refuse image-archive "$(unzip -Z1 -- "$image" 2>/dev/null | head -n 5 | tr '\n' ' ')" "$image"
  printf '%s\n' "$members" | sed 's/[][*?\\]/\\&/g'
}
# Its unpacked size if its format states it, else 0.
unpacked_size() {
  case $image_kind in
    xz) xz --robot --list -- "$image" 2>/dev/null | awk '$1 == "totals" { print $5 }' ;;
    image) size_of "$image" ;;
  esac
}

# Works on a temporary file beside --out, which is renamed when it is complete.
unpack() {
  local place member='' total free
  if [ -n "$out" ]; then place=$(dirname -- "$out")/.$(basename -- "$out").XXXXXX
  else place=${TMPDIR:-/var/tmp}/sanedge-card.XXXXXX; fi
  step "unpack $image ($(mebibytes "$(size_of "$image")"))"
  check_image_kind
  [ "$image_kind" != zip ] || member=$(zip_member) || exit
  [ -z "$dry" ] || return 0
  unfinished=$(mktemp -- "$place")
  [ "$(stat -c %a -- "$unfinished")" = 600 ] || refuse out-mode "mode $(stat -c %a -- "$unfinished")" "$(dirname -- "$place")"
  total=$(unpacked_size) || true # what is wrong with the file is said when it is unpacked
  total=${total:-0}
  free=$(($(df -Pk -- "$(dirname -- "$place")" | awk 'NR == 2 { print $4 }') * 1024))
  [ "$free" -ge "$total" ] || refuse out-room "$(mebibytes "$free")" "$(dirname -- "$place")" "$(mebibytes "$total")"
  local unpacked=0
  case $image_kind in
    xz) watched unpacking "$total" 1 xz -dc -- "$image" >"$unfinished" ;;
    gz) watched unpacking 0 1 gzip -dc -- "$image" >"$unfinished" ;;
    zst) watched unpacking 0 1 zstd -qdc --sparse -- "$image" >"$unfinished" ;;
    bz2) watched unpacking 0 1 bzip2 -dc -- "$image" >"$unfinished" ;;
    zip) watched unpacking 0 1 unzip -p -- "$image" "$member" >"$unfinished" ;;
    image) watched copying "$total" 1 dd if="$image" of="$unfinished" bs=1M conv=sparse status=none ;;
  esac || unpacked=$?
  if [ "$unpacked" -ne 0 ]; then
    free=$(($(df -Pk -- "$(dirname -- "$place")" | awk 'NR == 2 { print $4 }') * 1024))
    [ "$free" -ge 8388608 ] || refuse out-room "$(mebibytes "$free")" "$(dirname -- "$place")" "room for the whole image"
    refuse image-unpack "" "$image"
  fi
  [ "$image_kind" != image ] || truncate -s "$total" -- "$unfinished" # a hole at the end
  ln -s "$(realpath -- "$unfinished")" "$work/image" # a name without characters that debugfs or mtools would read
}

# partition NUMBER: type, first byte and size in bytes, from the MBR
partition() {
  local at=$((446 + 16 * ($1 - 1))) kind start sectors
  kind=$(od -An -tx1 -j $((at + 4)) -N 1 "$work/image" | tr -d ' \n')
  read -r start sectors < <(od -An -tu4 --endian=little -j $((at + 8)) -N 8 "$work/image")
  echo "$kind $((${start:-0} * 512)) $((${sectors:-0} * 512))"
}

find_partitions() {
  local what="an image of Raspberry Pi OS: an MBR, first a FAT boot partition, second an ext4 root"
  [ "$(kind_of "$work/image")" != 'tar archive' ] || refuse image-archive "a tar archive" "$image"
  local signature
  signature=$(od -An -tx1 -j 510 -N 2 "$work/image" | tr -d ' \n')
  [ "$signature" = 55aa ] || refuse image-table "no MBR" "$image" "$what"
  local kind bytes total second
  total=$(size_of "$work/image")
  read -r kind fat_at bytes < <(partition 1)
  read -r second _ < <(partition 2)
  case $kind-$second in
    01-* | 04-* | 06-* | 0[bcBC]-* | 0e-*) ;;
    ee-*) refuse image-gpt "a GPT" "$image" "$what" ;;
    83-00)
      fat='' ext4="image?offset=$fat_at"
      refuse image-single "$(image_says || echo "type 83 alone")" "$image" "$what"
      ;;
    *) refuse image-fat "type $kind" "$image" "$what" ;;
  esac
  [ $((fat_at + bytes)) -le "$total" ] || refuse image-cut "$(mebibytes "$total")" "$image" "$(mebibytes $((fat_at + bytes)))"
  read -r kind ext4_at bytes < <(partition 2)
  [ "$kind" = 83 ] || refuse image-linux "type $kind" "$image" "$what"
  [ $((ext4_at + bytes)) -le "$total" ] || refuse image-cut "$(mebibytes "$total")" "$image" "$(mebibytes $((ext4_at + bytes)))"
  fat="image@@$fat_at" ext4="image?offset=$ext4_at"
  find_cmdline "$what"
  if ! in_work dumpe2fs -h "$ext4" >"$work/super" 2>"$work/fsck"; then
    refuse_features
    refuse image-ext4 "" "$image" "$what"
  fi
}
# The file whose first line the kernel gets. Boards other than a Raspberry Pi may boot without one.
find_cmdline() {
  cmdline=$(cmdline_file "$board") || true
  if [ -n "$cmdline" ]; then
    boot_file "$cmdline" >"$work/cmdline.txt"
    return
  fi
  case $board in
    rpi* | generic-*) refuse image-cmdline "" "$image" "$1" ;;
  esac
  in_work mdir -i "$fat" :: >/dev/null 2>&1 || refuse image-fat "no FAT file system in it" "$image" "$1"
  note "$image has no cmdline.txt: MemoryMax= has an effect only if its kernel enables the memory controller"
}
# boot_file NAME: a file of the boot partition
boot_file() {
  rm -f "$work/boot.file"
  in_work mcopy -n -i "$fat" "::$1" boot.file >/dev/null 2>&1 </dev/null && cat "$work/boot.file"
}
in_work() { (cd "$work" && "$@"); }

# e2fsck's exit codes: 0 clean, 1 repaired, above that not repaired.
repair() { local status=0; in_work e2fsck -fp "$ext4" >"$work/fsck" 2>&1 || status=$?; [ "$status" -le 1 ]; }

refuse_features() {
  ! grep -qi 'unsupported.*feature' "$work/fsck" ||
    refuse image-ext4-features "$(grep -i 'unsupported.*feature' "$work/fsck" | head -n 1)" "$image"
}
refuse_damaged() {
  refuse_features
  refuse image-damaged "$(tail -n 3 "$work/fsck")" "$image"
}

ask_ext4() { in_work debugfs -R "$1" "$ext4" 2>/dev/null; }
ext4_has() { ask_ext4 "stat $1" | grep -q '^Inode:'; }
ext4_lists() { ask_ext4 "ls -p $1" | cut -d/ -f6; }
# MODE UID GID of a path
ext4_owner() {
  ask_ext4 "stat $1" | awk '/Mode:/ { for (i = 1; i < NF; i++) if ($i == "Mode:") mode = $(i + 1) }
    /^User:/ { print mode, $2, $4 }'
}
# fetch PATH NAME: a file of the image as $work/NAME
fetch() {
  rm -f "$work/$2"
  ask_ext4 "dump $1 $2" >/dev/null
  [ -s "$work/$2" ]
}

# The processor, by the first program found in the image; a small image may have none.
check_image_machine() {
  local probe found=''
  for probe in /usr/bin/dpkg /usr/bin/env /usr/bin/bash /bin/bash /bin/busybox /usr/lib/systemd/systemd /lib/systemd/systemd; do
    if fetch "$probe" probe; then found=$(elf_machine "$work/probe"); fi
    [ -z "$found" ] || break
  done
  rm -f "$work/probe"
  [ -n "$found" ] || note "$image has no program that shows which processor it is for"
  [ "${found:-$machine}" = "$machine" ] ||
    refuse image-machine "one for $(machine_word "$found")" "$image" "$board" "$word"
  systemd_version=$(ext4_lists "/usr/lib/$triplet/systemd" | sed -n 's/^libsystemd-shared-\([0-9]*\).*/\1/p')
  [ -n "$systemd_version" ] || note "$image has no systemd of a known kind, which the edge needs to start"
  systemd_version=${systemd_version:-0}
}

# The board that an image is for, if the image says so: Armbian by a file, Raspberry Pi OS by its firmware and a file.
image_says() {
  local name
  if fetch /etc/armbian-release release; then
    name=$(sed -n 's/^BOARD=//p' "$work/release" | tr -d '"')
    echo "an Armbian image for ${name:-another board}"
  elif [ -n "$fat" ] && [ -n "$(firmware)" ]; then echo "a Raspberry Pi image: $(firmware | head -n 3 | tr '\n' ' ')"
  elif fetch /etc/rpi-issue release; then echo "a Raspberry Pi image: $(head -n 1 "$work/release")"
  else return 1; fi
}
# Files that only the first stages of a Raspberry Pi load.
firmware() { boot_lists | grep -Ei '^(bootcode\.bin|start[a-z0-9]*\.elf|bcm27[0-9]*-.*\.dtb)$'; }
boot_lists() { in_work mdir -b -i "$fat" :: 2>/dev/null | sed 's|^::/||'; }

check_image_board() {
  local says trees tree
  says=$(image_says) || return 0
  case $board-$says in
    generic-*) return 0 ;;
    rpi*-*'Raspberry Pi image'*) ;;
    rpi*-*' for rpi'* | rpi*-*' for bcm2711'*) ;;
    *" for $board" | odroid-n2-*' for odroidn2'* | orangepi-zero-*' for orangepizero' | beaglebone-black-*' for beaglebone'*) ;;
    *) refuse image-board "$says" "$image" "$board" ;;
  esac
  # The device trees of the firmware's kernels, one for each model.
  case $board in
    rpi-zero) tree='bcm2708-rpi-zero' ;;
    rpi-zero2w) tree='bcm2710-rpi-zero-2' ;;
    rpi2) tree='bcm27(09|10)-rpi-2' ;;
    rpi3) tree='bcm2710-rpi-(3|cm3)' ;;
    rpi4) tree='bcm2711-' ;;
    rpi5) tree='bcm2712-?' ;;
    *) return 0 ;;
  esac
  trees=$(boot_lists | grep -Ei '^bcm27[0-9]*-.*\.dtb$') || return 0
  grep -Eiq "^$tree" <<<"$trees" || refuse image-board "device trees for $(head -n 3 <<<"$trees" | tr '\n' ' ')…" "$image" "$board"
}

number_of() {
  case $1 in
    root) echo 0 ;;
    sanedge) echo "$group_number" ;;
    sanedge-acme) echo "$acme_group_number" ;;
    *) echo "$1" ;;
  esac
}

# The plan as commands for debugfs, which writes files only into its working directory. Its exit code does not show failures, so everything is
# read back.
apply_plan() {
  local kind a b c path
  : >"$work/commands"
  while read -r kind a b c path; do
    case $kind in
      dir) in_ext4_dir "$path" && own 040 "$a" "$b" "$c" "$path" ;;
      file)
        in_ext4_dir "$(dirname "$path")"
        if ext4_has "$path"; then say_ext4 rm "$path"; fi
        say_ext4 cd "$(dirname "$path")"
        say_ext4 write "root$path" "$(basename "$path")"
        own 0100 "$a" "$b" "$c" "$path"
        ;;
      link)
        in_ext4_dir "$(dirname "$b")"
        if ext4_has "$b"; then say_ext4 rm "$b"; fi
        say_ext4 symlink "$b" "$a"
        ;;
      gone) if ext4_has "$a"; then say_ext4 rm "$a"; fi ;;
    esac
  done <"$work/plan"
  in_work debugfs -w -f commands "$ext4" >"$work/debugfs.out" 2>&1
  repair && in_work e2fsck -fn "$ext4" >"$work/fsck" 2>&1 ||
    refuse image-unclean "$(tail -n 3 "$work/fsck")"
  proves
}
say_ext4() { printf '%s\n' "$*" >>"$work/commands"; }
own() {
  say_ext4 sif "$5" mode "$1${2#0}"
  say_ext4 sif "$5" uid "$(number_of "$3")"
  say_ext4 sif "$5" gid "$(number_of "$4")"
}
made=' '
in_ext4_dir() {
  case $made in *" $1 "*) return ;; esac
  if ! ext4_has "$1"; then
    in_ext4_dir "$(dirname "$1")"
    say_ext4 mkdir "$1"
  fi
  made+="$1 "
}

# Reads back what was written.
proves() {
  local kind a b c path
  while read -r kind a b c path; do
    case $kind in
      file | dir)
        [ "$(ext4_owner "$path")" = "$a $(number_of "$b") $(number_of "$c")" ] || unproven "$path" "$(ext4_owner "$path")"
        [ "$kind" = dir ] || { fetch "$path" back && cmp -s "$work/back" "$work/root$path"; } || unproven "$path" "other contents"
        ;;
      link) ask_ext4 "stat $b" | grep -Fq "\"$a\"" || unproven "$b" "no link to $a" ;;
      gone) ! ext4_has "$a" || unproven "$a" "still there" ;;
    esac
  done <"$work/plan"
  rm -f "$work/back"
}
unproven() {
  refuse image-unwritten "$2" "$1" "$(sed -n 's/^Free blocks: *//p' "$work/super")"
}

check_room() {
  local block free needed
  block=$(sed -n 's/^Block size: *//p' "$work/super")
  free=$(($(sed -n 's/^Free blocks: *//p' "$work/super") * block))
  needed=$(($(du -sb "$work/root" | cut -f1) + 1048576))
  [ "$free" -ge "$needed" ] ||
    refuse image-room "$(mebibytes "$free")" "$image" "$(mebibytes "$needed")"
}

put_boot() {
  local name
  [ -z "$cmdline" ] || cp "$work/cmdline.new" "$work/put.cmdline.txt"
  [ ! -f "$work/userconf.txt" ] || mv "$work/userconf.txt" "$work/put.userconf.txt"
  for name in cmdline.txt userconf.txt; do
    [ -f "$work/put.$name" ] || continue
    put_boot_file "$name" "$([ "$name" = cmdline.txt ] && echo "$cmdline" || echo "$name")"
  done
}

put_boot_file() {
  in_work mcopy -o -i "$fat" "put.$1" "::$2" && in_work mcopy -o -i "$fat" "::$2" back && cmp -s "$work/back" "$work/put.$1" ||
    refuse boot-unwritten "" "$2"
}

show_plan() {
  local kind a b c path
  while read -r kind a b c path; do
    case $kind in
      file) detail "$path  $a $b:$c" ;;
      dir) detail "$path/  $a $b:$c" ;;
      link) detail "$b -> $a" ;;
      gone) ;;
    esac
  done < <(awk '!seen[$0]++' "$work/plan")
}

make_image() {
  unpack
  # A dry run checks an unpacked image, but not a compressed one.
  if [ -n "$dry" ]; then
    if [ "$image_kind" = image ]; then ln -s "$(realpath -- "$image")" "$work/image"
    else note "a dry run does not check a compressed image"; fi
  fi
  group_number='?' acme_group_number='?' systemd_version=0
  if [ -e "$work/image" ]; then
    find_partitions
    [ -n "$dry" ] || repair || refuse_damaged
    [ -z "$device" ] || device_holds "$(size_of "$work/image")"
    check_image_machine
    check_image_board
    plan_edge
    plan_account
    look_at_first_boot
    plan_hostname
    plan_ssh_key
    plan_boot
    check_room
  else
    plan_edge
  fi
  step "write to the root partition"
  show_plan
  [ -n "$dry" ] || apply_plan
  [ -z "${cmdline-cmdline.txt}" ] || step "write to ${cmdline:-cmdline.txt}: cgroup_enable=memory${wifi_country:+ cfg80211.ieee80211_regdom=$wifi_country}"
  [ -n "$dry" ] || put_boot
}

finish_image() {
  [ -n "$out" ] || return 0
  step "name it $out, mode 0600"
  [ -z "$dry" ] || return 0
  chmod 0600 -- "$unfinished"
  sync -- "$unfinished"
  mv -f -- "$unfinished" "$out"
  unfinished=
  if has_secrets; then note "$out contains private keys: it has mode 0600; keep the card safe too"; else
    note "$out contains no private key"
  fi
}
