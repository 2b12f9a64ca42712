#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154,SC2016  # variables of support.bash; words that only look like expansions
# Images as they are today: their archives, what they say of themselves, their users, and what their first boot changes.

load support
setup_file() { make_all; }
setup() { enter; }
teardown() { free_loops; }

# edit IMAGE COMMAND…: a copy of image.img, changed by commands for debugfs
edit() {
  cp image.img "$1"
  printf '%s\n' "${@:2}" >commands
  debugfs -w -f commands "$1?offset=$ext4_at" >debugfs.said 2>&1
  e2fsck -fp "$1?offset=$ext4_at" >/dev/null || [ $? -le 1 ]
}
# on_boot IMAGE NAME: stdin as a file of its boot partition
on_boot() { cat >boot.file && mcopy -o -i "$1@@$fat_at" boot.file "::$2"; }
made() { [ "$status" -eq 0 ] || { echo "$output"; return 1; }; is_clean card.img; }

# --- archives ------------------------------------------------------------------------------------------------------

@test "archives by what they are, whatever their names say" {
  bzip2 -1 <image.img >a.img.bz2
  zip -q -1 a.zip image.img
  xz -0 <image.img >misnamed.img
  gzip -1 <image.img >misnamed.xz
  for packed in a.img.bz2 a.zip misnamed.img misnamed.xz; do
    flash --image "$packed" --out card.img
    made
    [ "$(stat -c %s card.img)" = "$image_bytes" ]
    is_in card.img /etc/sanedge/sanedge.bundle
    rm card.img
  done
}

@test "what is no image is refused with what it is" {
  local one code text checked=0
  printf '<!DOCTYPE html>\n<html>404' >page.img
  printf 'version https://git-lfs.github.com/spec/v1\noid sha256:1\n' >pointer.img
  printf '7z\xbc\xaf\x27\x1c..' >a.7z
  printf 'QFI\xfb....' >disk.qcow2
  tar -cf a.tar chain.pem
  tar -czf a.tar.gz chain.pem
  zip -q two.zip chain.pem sanedge.toml
  ln image.img second.img 2>/dev/null || cp image.img second.img
  zip -q -0 both.zip image.img second.img
  while read -r one code text; do
    flash --image "$one" --out card.img
    refused 1 "[$code]" "$text"
    checked=$((checked + 1))
  done <<'TABLE'
page.img image-kind a web page
pointer.img image-kind a pointer of Git LFS
a.7z image-kind a 7z archive
disk.qcow2 image-kind qemu-img convert
a.tar image-kind a tar archive
a.tar.gz image-archive a tar archive
two.zip image-archive chain.pem
both.zip image-archive image.img
TABLE
  [ "$checked" -eq 8 ]
}

@test "an output that cannot be private, or has no room" {
  stand_in stat 'case "$*" in *%a*.card.img*) echo 755 ;; *) exec "$real" "$@" ;; esac'
  flash --image image.img --out card.img
  refused 1 '[out-mode]' 'mode 755' 'FAT'
  rm "$BATS_TEST_TMPDIR/bin/stat"
  stand_in df 'echo head; echo "/dev/x 1 1 '$((image_bytes / 1024 - 1))' 1% /"'
  flash --image image.img --out card.img
  refused 1 '[out-room]' 'not enough space'
  stand_in df 'echo head; echo "/dev/x 1 1 '$((image_bytes / 1024))' 1% /"'
  flash --image image.img --out card.img
  made
}

# --- what the image is ---------------------------------------------------------------------------------------------

@test "an image for another board, by what it says it is" {
  local image board checked=0
  cp image.img plain.img
  cp image.img pios.img
  on_boot pios.img start4.elf <chain.pem
  for tree in bcm2710-rpi-3-b bcm2711-rpi-4-b; do on_boot pios.img "$tree.dtb" <chain.pem; done
  printf 'BOARD=rock64\nVERSION=24\n' >release
  edit armbian.img 'cd /etc' 'write release armbian-release'
  printf 'BOARD=rpi4b\n' >release
  edit armbian-pi.img 'cd /etc' 'write release armbian-release'
  while read -r image board right; do
    rm -f sanedge.toml card.img && config "$board" >sanedge.toml
    flash --board "$board" --image "$image" --out card.img
    if [ "$right" = yes ]; then made || { echo "$image $board"; false; }
    else refused 1 '[image-board]' "$image is not for $board" || { echo "$image $board"; false; }; fi
    checked=$((checked + 1))
  done <<'TABLE'
pios.img rpi4 yes
pios.img rpi3 yes
pios.img rpi5 no
pios.img rock64 no
pios.img odroid-n2 no
pios.img generic-aarch64 yes
armbian.img rock64 yes
armbian.img rpi4 no
armbian.img odroid-n2 no
armbian-pi.img rpi4 yes
armbian-pi.img rock64 no
plain.img rpi4 yes
plain.img rock64 yes
TABLE
  [ "$checked" -eq 13 ]
}

@test "one partition, and a root file system of a later e2fsprogs" {
  mkdir -p tree.one/etc
  printf 'BOARD=rock64\n' >tree.one/etc/armbian-release
  truncate -s 24M one.img
  mkfs.ext4 -q -E "offset=$((1024 * 1024))" -d tree.one one.img 20M
  printf '\x00\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\xa0\x00\x00' | dd of=one.img bs=1 seek=446 conv=notrunc status=none
  printf '\x55\xaa' | dd of=one.img bs=1 seek=510 conv=notrunc status=none
  flash --image one.img --out card.img
  refused 1 '[image-single]' 'an Armbian image for rock64' 'then use --host'
  # An incompatible feature that nobody has yet: the highest bit, at 0x60 of the superblock.
  cp image.img later.img
  debugfs -w -R 'set_super_value feature_incompat 0x800002c2' "later.img?offset=$ext4_at" >/dev/null 2>&1
  flash --image later.img --out card.img
  refused 1 '[image-ext4-features]' 'unsupported feature' 'a later e2fsprogs'
}

# --- the kernel's line ---------------------------------------------------------------------------------------------

@test "cmdline.txt of an image: os_prefix, include and cmdline= are followed, the last word decides" {
  cp image.img prefix.img
  mmd -i "prefix.img@@$fat_at" ::current
  echo 'root=new cgroup_disable=memory' | on_boot prefix.img current/cmdline.txt
  printf 'include more.txt\n' | on_boot prefix.img config.txt
  printf '[pi5]\nos_prefix=no/\n[pi4]\nos_prefix=current/\r\n' | on_boot prefix.img more.txt
  flash --image prefix.img --out card.img
  made
  says "write to current/cmdline.txt" "cgroup_disable=memory"
  [ "$(mtype -i "card.img@@$fat_at" ::current/cmdline.txt)" = "root=new cgroup_disable=memory cgroup_enable=memory" ]
  [ "$(cmdline card.img)" = "$(cmdline image.img)" ]
  # For another model the prefix is none of its business.
  rm sanedge.toml && config rpi3 >sanedge.toml
  flash --board rpi3 --image prefix.img --out card.img
  made
  [[ $(cmdline card.img) == *cgroup_enable=memory ]]
  # No such file: a Raspberry Pi would not boot, another board may.
  cp image.img none.img
  mdel -i "none.img@@$fat_at" ::cmdline.txt
  rm card.img
  flash --board rpi3 --image none.img --out card.img
  refused 1 '[image-cmdline]'
  rm sanedge.toml && config rock64 >sanedge.toml
  flash --board rock64 --image none.img --out card.img
  made
  says "has no cmdline.txt: MemoryMax="
}

# --- users ---------------------------------------------------------------------------------------------------------

# user SHELL HASH: an image whose first user has this shell and this field in shadow, with sudo and bash
user() {
  inside image.img /etc/passwd | sed "s|:/bin/bash\$|:$1|; 1s|:$1\$|:/bin/bash|" >passwd
  printf 'root:*:19000:0:99999:7:::\npi:%s:19000:0:99999:7:::\n' "$2" >shadow
  edit "$3" 'rm /etc/passwd' 'rm /etc/shadow' 'cd /etc' 'write passwd passwd' 'write shadow shadow' 'cd /usr/bin' 'write program sudo' 'write program bash'
}

@test "a first user that could not log in, or whose sudo asks for a password that nobody set" {
  user /usr/sbin/nologin '!' trixie.img
  flash --image trixie.img --out card.img --ssh-key id.pub
  made
  says "pi had the shell /usr/sbin/nologin" "pi may use sudo without a password"
  [ "$(inside card.img /etc/passwd | grep ^pi:)" = 'pi:x:1000:1000:,,,:/home/pi:/bin/bash' ]
  [ "$(inside card.img /etc/passwd | grep -c ^sanedge:)" = 1 ]
  [ "$(inside card.img /etc/sudoers.d/010_pi-nopasswd | tail -n 1)" = 'pi ALL=(ALL:ALL) NOPASSWD: ALL' ]
  [ "$(owner card.img /etc/sudoers.d/010_pi-nopasswd)" = "0440 0 0 " ]
  # A password that is set, or a rule that is there, stays as it is.
  rm card.img
  user /bin/bash '$y$j9T$abc$def' known.img
  flash --image known.img --out card.img --ssh-key id.pub
  made
  is_not_in card.img /etc/sudoers.d/010_pi-nopasswd
  [[ $output != *"had the shell"* ]]
  user /bin/bash '*' ruled.img
  printf '%%sudo ALL=(ALL) NOPASSWD: ALL\n' >rule
  printf '%s\n' 'mkdir /etc/sudoers.d' 'cd /etc/sudoers.d' 'write rule 010_pi' >commands
  debugfs -w -f commands "ruled.img?offset=$ext4_at" >/dev/null 2>&1
  rm card.img
  flash --image ruled.img --out card.img --ssh-key id.pub
  made
  is_not_in card.img /etc/sudoers.d/010_pi-nopasswd
  # Without --ssh-key nobody is given anything.
  rm card.img
  flash --image trixie.img --out card.img
  made
  is_not_in card.img /etc/sudoers.d/010_pi-nopasswd
  [[ $(inside card.img /etc/passwd | grep ^pi:) == *nologin ]]
}

@test "a home that is not there yet becomes its user's, not root's" {
  edit homeless.img 'rmdir /home/pi'
  flash --image homeless.img --out card.img --ssh-key id.pub
  made
  [ "$(owner card.img /home/pi)" = "0700 1000 1000 " ]
  [ "$(owner card.img /home/pi/.ssh)" = "0700 1000 1000 " ]
}

@test "an image with Dropbear instead of OpenSSH, and one with both" {
  edit dropbear.img 'rm /usr/lib/systemd/system/ssh.service' 'cd /usr/lib/systemd/system' 'write program dropbear.service'
  flash --image dropbear.img --out card.img --ssh-key id.pub
  made
  is_in card.img /etc/systemd/system/multi-user.target.wants/dropbear.service
  edit both.img 'cd /usr/lib/systemd/system' 'write program dropbear.service'
  rm card.img
  flash --image both.img --out card.img --ssh-key id.pub
  made
  is_in card.img /etc/systemd/system/multi-user.target.wants/ssh.service
  is_not_in card.img /etc/systemd/system/multi-user.target.wants/dropbear.service
}

@test "a key with options before it" {
  printf 'command="/bin/true" %s\n' "$(cat id.pub)" >options.pub
  cat id.pub >>options.pub
  flash --image image.img --out card.img --ssh-key options.pub
  refused 1 '[key-options]' 'command='
  printf '# mine\n\n%s\n' "$(cat id.pub)" >plain.pub
  flash --image image.img --out card.img --ssh-key plain.pub
  made
}

# --- what the first boot changes -------------------------------------------------------------------------------------

@test "a card that Raspberry Pi Imager prepared: what its first boot would undo is refused, what it sets is said" {
  local name text checked=0
  while IFS='|' read -r name text; do
    cp image.img imager.img
    printf '%b' "$text" | on_boot imager.img "$name"
    flash --image imager.img --out card.img --hostname edge
    refused 1 '[image-first-boot]' 'would undo --hostname' "other in $name" "change it in $name"
    flash --image imager.img --out card.img --hostname other
    made
    flash --image imager.img --out card.img
    made
    says "the first boot sets hostname other ($name)"
    rm card.img
    checked=$((checked + 1))
  done <<'TABLE'
user-data|#cloud-config\nhostname: other\nmanage_etc_hosts: true\n
user-data|#cloud-config\r\nhostname: "other"\r\n
meta-data|instance-id: rpios-image\nlocal-hostname: other\n
custom.toml|[system]\nhostname = "other"\n[user]\nname = "me"\n
firstrun.sh|#!/bin/bash\n/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname other\n
firstrun.sh|#!/bin/bash\n/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname 'other'\n
dietpi.txt|#AUTO_SETUP_NET_HOSTNAME=no\nAUTO_SETUP_NET_HOSTNAME=other\n
firstrun.sh|#!/bin/bash\necho other >/etc/hostname\n
TABLE
  [ "$checked" -eq 8 ]
  # Not everything that looks like it.
  cp image.img comments.img
  printf '#cloud-config\n#hostname: other\npackages: [x]\n' | on_boot comments.img user-data
  flash --image comments.img --out card.img --hostname edge
  made
}

@test "a card that Raspberry Pi Imager prepared: the radio's country, the user, and Wi-Fi of former times" {
  cp image.img imager.img
  printf '[system]\n[user]\nname = "me"\n[wlan]\nssid = "x"\ncountry = "GB"\n' | on_boot imager.img custom.toml
  flash --image imager.img --out card.img --wifi-country DE
  refused 1 '[image-first-boot]' 'would undo --wifi-country' 'GB in custom.toml'
  flash --image imager.img --out card.img --wifi-country GB
  made
  says "the first boot creates the user me"
  # An account that is prepared there stays.
  edit os.img 'mkdir /usr/lib/userconf-pi' 'cd /usr/lib/userconf-pi' 'write program userconf' 'cd /usr/sbin' 'mkdir /usr/sbin' 'cd /usr/sbin' 'write program NetworkManager'
  printf 'me:$6$hash\n' | on_boot os.img userconf.txt
  printf 'network={}\n' | on_boot os.img wpa_supplicant.conf
  rm card.img
  flash --image os.img --out card.img --ssh-key id.pub
  made
  [ "$(mtype -i "card.img@@$fat_at" ::userconf.txt)" = 'me:$6$hash' ]
  says "renames the first user" "wpa_supplicant.conf on the boot partition is not read"
}

# armbian FILE LINE: armbian.img with this file on its root partition
armbian() {
  printf '%s\n' "$2" >preset
  edit armbian.img "mkdir ${1%/*}" "cd ${1%/*}" "write preset ${1##*/}"
}
@test "Armbian's presets for the first boot and the first login" {
  local file line checked=0
  while IFS='|' read -r file line; do
    armbian "$file" "$line"
    flash --image armbian.img --out card.img --wifi-country DE
    refused 1 '[image-first-boot]' 'would undo --wifi-country' "US in $file" "change it in $file in the image"
    flash --image armbian.img --out card.img --wifi-country US
    made
    rm card.img
    checked=$((checked + 1))
  done <<'TABLE'
/boot/armbian_first_run.txt|FR_net_wifi_countrycode='US'
/root/.not_logged_in_yet|PRESET_NET_WIFI_COUNTRYCODE="US"
TABLE
  [ "$checked" -eq 2 ]
  armbian /root/.not_logged_in_yet '#PRESET_NET_WIFI_COUNTRYCODE="US"'
  flash --image armbian.img --out card.img --wifi-country DE
  made
  armbian /root/.not_logged_in_yet 'PRESET_USER_NAME="me"'
  rm card.img
  flash --image armbian.img --out card.img
  made
  says "the first boot creates the user me"
}

@test "Armbian has no user before its first login" {
  inside image.img /etc/passwd | grep -v ^pi: >passwd
  edit armbian.img 'rm /etc/passwd' 'cd /etc' 'write passwd passwd'
  flash --image armbian.img --out card.img --ssh-key id.pub
  refused 1 '[image-user]' 'Armbian creates the user at the first login as root'
  flash --image armbian.img --out card.img
  made
}

@test "DietPi without an ssh server undoes --ssh-key" {
  cp image.img dietpi.img
  printf 'AUTO_SETUP_SSH_SERVER_INDEX=0\n' | on_boot dietpi.img dietpi.txt
  flash --image dietpi.img --out card.img --ssh-key id.pub
  refused 1 '[image-first-boot]' 'would undo --ssh-key' 'AUTO_SETUP_SSH_SERVER_INDEX=0 in dietpi.txt' 'leave --ssh-key out'
  flash --image dietpi.img --out card.img
  made
  rm card.img
  for index in -1 -2; do
    printf 'AUTO_SETUP_SSH_SERVER_INDEX=%s\n' "$index" | on_boot dietpi.img dietpi.txt
    flash --image dietpi.img --out card.img --ssh-key id.pub
    made
    rm card.img
  done
}

@test "what a former account left in shadow and gshadow gets no second line" {
  printf 'root:*:19000:0:99999:7:::\nsanedge:!*:19000::::::\n' >shadow
  printf 'root:*::\nsanedge:!*::\n' >gshadow
  edit former.img 'rm /etc/shadow' 'rm /etc/gshadow' 'cd /etc' 'write shadow shadow' 'write gshadow gshadow'
  flash --image former.img --out card.img
  made
  local name
  for name in passwd group shadow gshadow; do
    [ "$(inside card.img "/etc/$name" | grep -c ^sanedge:)" = 1 ]
  done
}

@test "Wi-Fi under NetworkManager is switched on with its country" {
  printf '[main]\nNetworkingEnabled=true\nWirelessEnabled=false\nWWANEnabled=true\n' >state
  edit nm.img 'mkdir /var/lib/NetworkManager' 'cd /var/lib/NetworkManager' 'write state NetworkManager.state'
  flash --image nm.img --out card.img --wifi-country DE
  made
  inside card.img /var/lib/NetworkManager/NetworkManager.state | grep -qx 'WirelessEnabled=true'
  inside card.img /var/lib/NetworkManager/NetworkManager.state | grep -qx 'WWANEnabled=true'
  rm card.img
  flash --image nm.img --out card.img
  made
  inside card.img /var/lib/NetworkManager/NetworkManager.state | grep -qx 'WirelessEnabled=false'
}
