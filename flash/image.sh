# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# The image: unpacked, looked at, changed, read back.

# Everything is done to a file of our own beside --out, which gets its name when it is whole.
unpack() {
  local place
  if [ -n "$out" ]; then place=$(dirname -- "$out")/.$(basename -- "$out").XXXXXX
  else place=${TMPDIR:-/var/tmp}/sanedge-card.XXXXXX; fi
  step "unpack $image ($(mebibytes "$(size_of "$image")"))"
  [ -z "$dry" ] || return 0
  unfinished=$(mktemp -- "$place")
  local unpacked=0
  case $image in
    *.xz) watched unpacking "$(xz --robot --list -- "$image" | awk '$1 == "totals" { print $5 }')" 1 xz -dc -- "$image" >"$unfinished" ;;
    *.gz) watched unpacking 0 1 gzip -dc -- "$image" >"$unfinished" ;;
    *.zst) watched unpacking 0 1 zstd -qdc --sparse -- "$image" >"$unfinished" ;;
    *) watched copying "$(size_of "$image")" 1 dd if="$image" of="$unfinished" bs=1M conv=sparse status=none ;;
  esac || unpacked=$?
  [ "$unpacked" -eq 0 ] || refuse image-unpack "" "$image"
  case $image in *.xz | *.gz | *.zst) ;; *) truncate -s "$(size_of "$image")" -- "$unfinished" ;; esac # a hole at the end
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
  local signature
  signature=$(od -An -tx1 -j 510 -N 2 "$work/image" | tr -d ' \n')
  [ "$signature" = 55aa ] || refuse image-table "no MBR" "$image" "$what"
  local kind bytes total
  total=$(size_of "$work/image")
  read -r kind fat_at bytes < <(partition 1)
  case $kind in
    01 | 04 | 06 | 0b | 0c | 0e) ;;
    ee) refuse image-gpt "a GPT" "$image" "$what" ;;
    *) refuse image-fat "type $kind" "$image" "$what" ;;
  esac
  [ $((fat_at + bytes)) -le "$total" ] || refuse image-cut "$(mebibytes "$total")" "$image" "$(mebibytes $((fat_at + bytes)))"
  read -r kind ext4_at bytes < <(partition 2)
  [ "$kind" = 83 ] || refuse image-linux "type $kind" "$image" "$what"
  [ $((ext4_at + bytes)) -le "$total" ] || refuse image-cut "$(mebibytes "$total")" "$image" "$(mebibytes $((ext4_at + bytes)))"
  fat="image@@$fat_at" ext4="image?offset=$ext4_at"
  in_work mcopy -o -i "$fat" ::cmdline.txt cmdline.txt 2>/dev/null ||
    refuse image-cmdline "" "$image" "$what"
  in_work dumpe2fs -h "$ext4" >"$work/super" 2>/dev/null ||
    refuse image-ext4 "" "$image" "$what"
}
in_work() { (cd "$work" && "$@"); }

# e2fsck's codes: 0 clean, 1 mended, above that not.
mend() { local status=0; in_work e2fsck -fp "$ext4" >"$work/fsck" 2>&1 || status=$?; [ "$status" -le 1 ]; }

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

# By the first program found in it; a small image may have none that tells.
check_image_machine() {
  local probe found=''
  for probe in /usr/bin/dpkg /usr/bin/env /usr/bin/bash /bin/bash /bin/busybox /usr/lib/systemd/systemd /lib/systemd/systemd; do
    if fetch "$probe" probe; then found=$(elf_machine "$work/probe"); fi
    [ -z "$found" ] || break
  done
  rm -f "$work/probe"
  [ -n "$found" ] || note "$image holds no program that tells for which processor it is"
  [ "${found:-$machine}" = "$machine" ] ||
    refuse image-machine "one for $(machine_word "$found")" "$image" "$board" "$word"
  systemd_version=$(ext4_lists "/usr/lib/$triplet/systemd" | sed -n 's/^libsystemd-shared-\([0-9]*\).*/\1/p')
  [ -n "$systemd_version" ] || note "$image has no systemd that is known here: nothing else starts the edge"
  systemd_version=${systemd_version:-0}
}

# The account must be there before the first boot, because the bundle belongs to its group: a free number below 1000 for
# user and group, as systemd-sysusers would take. Where there is one already, it stays.
plan_account() {
  local number
  if ! fetch /etc/passwd passwd || ! fetch /etc/group group; then
    note "$image has no accounts: the edge's is made at the first boot, and gets the bundle then"
    : >"$work/passwd"
    group_number=0
    printf 'z /etc/sanedge 0750 root sanedge -\nz /etc/sanedge/sanedge.bundle 0640 root sanedge -\n' |
      file 0644 root root /etc/tmpfiles.d/sanedge-bundle.conf
    return
  fi
  group_number=$(awk -F: '$1 == "sanedge" { print $3 }' "$work/group")
  if [ -n "$group_number" ] && grep -q '^sanedge:' "$work/passwd"; then return; fi
  [ -z "$group_number" ] && ! grep -q '^sanedge:' "$work/passwd" ||
    refuse image-account "one of them" "$image"
  for ((number = 999; number >= 100; number--)); do
    cut -d: -f3 "$work/passwd" "$work/group" | grep -qx "$number" || break
  done
  group_number=$number
  append passwd "sanedge:x:$number:$number:sanedge, the TLS edge:/nonexistent:/usr/sbin/nologin"
  append group "sanedge:x:$number:"
  if fetch /etc/shadow shadow; then append shadow "sanedge:!*:$(($(date +%s) / 86400))::::::"; fi
  if fetch /etc/gshadow gshadow; then append gshadow 'sanedge:!*::'; fi
}
ended() { awk 1 "$1"; } # with a line end behind the last line
# append NAME LINE: to /etc/NAME, which keeps its mode and owner
append() {
  local owner
  read -r -a owner < <(ext4_owner "/etc/$1")
  { ended "$work/$1"; printf '%s\n' "$2"; } | file "${owner[@]}" "/etc/$1"
}

plan_hostname() {
  [ -n "$hostname" ] || return 0
  printf '%s\n' "$hostname" | file 0644 root root /etc/hostname
  fetch /etc/hosts hosts || : >"$work/hosts"
  { sed '/^127\.0\.1\.1[[:space:]]/d' "$work/hosts"; printf '127.0.1.1\t%s\n' "$hostname"; } | file 0644 root root /etc/hosts
}

# The first user of the image (1000) gets the key. On Raspberry Pi OS a userconf.txt without a password keeps the
# wizard from renaming that user and asking for one at a screen that nobody looks at.
plan_ssh_key() {
  [ -n "$ssh_key" ] || return 0
  local user group home unit=
  IFS=: read -r user group home < <(awk -F: '$3 == 1000 { print $1 ":" $4 ":" $6 }' "$work/passwd") || true
  [[ ${user:-} =~ ^[a-z_][a-z0-9_-]*$ && ${home:-} =~ ^/[A-Za-z0-9_./-]+$ ]] ||
    refuse image-user "" "$image"
  for folder in /usr/lib/systemd/system /lib/systemd/system; do
    if ext4_has "$folder/ssh.service"; then unit=$folder/ssh.service; fi
  done
  [ -n "$unit" ] || refuse image-sshd "" "$image"
  dir 0700 1000 "$group" "$home/.ssh"
  { if fetch "$home/.ssh/authorized_keys" keys; then ended "$work/keys"; fi; grep . -- "$ssh_key"; } |
    sort -u | file 0600 1000 "$group" "$home/.ssh/authorized_keys"
  dir 0755 root root "$settings/multi-user.target.wants"
  plan link "$unit" "$settings/multi-user.target.wants/ssh.service"
  if ext4_has /usr/lib/userconf-pi/userconf; then
    printf '%s:*\n' "$user" >"$work/userconf.txt"
  fi
  note "log in as $user, with the key of $ssh_key; there is no password"
}

# Raspberry Pi kernels start with the memory controller off, and MemoryMax= would do nothing. The radio's country is a
# parameter of the kernel too, and the file that blocks it until one is set goes to "not blocked".
plan_boot() {
  local words="cgroup_enable=memory"
  [ -z "$wifi_country" ] || words+=" cfg80211.ieee80211_regdom=$wifi_country"
  head -n 1 "$work/cmdline.txt" | grep -q '[^[:space:]]' || refuse image-empty-line "" "$image"
  tr -d '\r' <"$work/cmdline.txt" | head -n 1 |
    sed -E "s/(^| )cgroup_enable=memory( |\$)/ /g; ${wifi_country:+s/(^| )cfg80211\.ieee80211_regdom=[^ ]*//g;}
      s/  +/ /g; s/^ //; s/ *\$/ $words/" >"$work/cmdline.new"
  [ -n "$wifi_country" ] || return 0
  local radio
  for radio in $(ext4_lists /var/lib/systemd/rfkill | grep ':wlan$'); do
    echo 0 | file 0644 root root "/var/lib/systemd/rfkill/$radio"
  done
}

number_of() {
  case $1 in
    root) echo 0 ;;
    sanedge) echo "$group_number" ;;
    *) echo "$1" ;;
  esac
}

# The plan as commands for debugfs. It writes a file only into its working directory, and says no word to the exit code
# about what failed: so everything is read back.
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
  mend && in_work e2fsck -fn "$ext4" >"$work/fsck" 2>&1 ||
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

# Reads back what was put in.
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
  cp "$work/cmdline.new" "$work/put.cmdline.txt"
  [ ! -f "$work/userconf.txt" ] || mv "$work/userconf.txt" "$work/put.userconf.txt"
  for name in cmdline.txt userconf.txt; do
    [ -f "$work/put.$name" ] || continue
    in_work mcopy -o -i "$fat" "put.$name" "::$name" &&
      in_work mcopy -o -i "$fat" "::$name" back && cmp -s "$work/back" "$work/put.$name" ||
      refuse boot-unwritten "" "$name"
  done
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
  # A dry run looks into an image that lies there unpacked, and takes a packed one on trust.
  if [ -n "$dry" ]; then
    case $image in
      *.xz | *.gz | *.zst) note "a dry run does not look into a packed image" ;;
      *) ln -s "$(realpath -- "$image")" "$work/image" ;;
    esac
  fi
  group_number='?' systemd_version=0
  if [ -e "$work/image" ]; then
    find_partitions
    [ -n "$dry" ] || mend || refuse image-damaged "$(tail -n 3 "$work/fsck")" "$image"
    [ -z "$device" ] || device_holds "$(size_of "$work/image")"
    check_image_machine
    plan_edge
    plan_account
    plan_hostname
    plan_ssh_key
    plan_boot
    check_room
  else
    plan_edge
  fi
  step "put into the root partition"
  show_plan
  [ -n "$dry" ] || apply_plan
  step "put into cmdline.txt: cgroup_enable=memory${wifi_country:+ cfg80211.ieee80211_regdom=$wifi_country}"
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
  note "$out holds private keys: it is for your eyes only (0600), and so is the card"
}
