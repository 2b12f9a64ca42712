# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# What an image gets besides the edge: accounts, host name, key, kernel parameters; and what its first boot would change.

# The accounts must exist before the first boot, because the bundle belongs to the group of one and the folders of tmpfiles.d to both. They get
# a free number below 1000 for user and group, as from systemd-sysusers. Existing accounts stay.
plan_account() {
  if ! fetch /etc/passwd passwd || ! fetch /etc/group group; then
    note "$image has no accounts: the first boot creates the edge's accounts and gives them the bundle"
    : >"$work/passwd"
    group_number=0 acme_group_number=0
    {
      printf 'z /etc/sanedge 0751 root sanedge -\nz /etc/sanedge/sanedge.bundle 0640 root sanedge -\n'
      sed -n 's|^file 0640 root sanedge-acme \(.*\)|z \1 0640 root sanedge-acme -|p' "$work/plan"
    } | file 0644 root root /etc/tmpfiles.d/sanedge-bundle.conf
    return
  fi
  local number=1000 database lines lines_passwd='' lines_group='' lines_shadow='' lines_gshadow=''
  account sanedge "the TLS edge"
  group_number=$account_number
  account sanedge-acme "certificates from the CA"
  acme_group_number=$account_number
  [ -n "$lines_passwd" ] || return 0
  append passwd "$lines_passwd"
  append group "$lines_group"
  for database in shadow gshadow; do
    lines=lines_$database
    fetch "/etc/$database" "$database" || continue
    # These may still have a line of a former account; a second one would have no effect.
    awk -F: 'NR == FNR { new[$1]; next } !($1 in new)' <(printf '%s\n' "${!lines}") "$work/$database" >"$work/former"
    mv "$work/former" "$work/$database"
    append "$database" "${!lines}"
  done
}
# account NAME PURPOSE: adds a missing line to each database; its number is in $account_number
account() {
  account_number=$(awk -F: -v name="$1" '$1 == name { print $3 }' "$work/group")
  if [ -n "$account_number" ] && grep -q "^$1:" "$work/passwd"; then return; fi
  [ -z "$account_number" ] && ! grep -q "^$1:" "$work/passwd" ||
    refuse image-account "one of them" "$image"
  while number=$((number - 1)) && [ "$number" -ge 100 ]; do
    cut -d: -f3 "$work/passwd" "$work/group" | grep -qx "$number" || break
  done
  account_number=$number
  lines_passwd+=${lines_passwd:+$'\n'}"$1:x:$number:$number:sanedge, $2:/nonexistent:/usr/sbin/nologin"
  lines_group+=${lines_group:+$'\n'}"$1:x:$number:"
  lines_shadow+=${lines_shadow:+$'\n'}"$1:!*:$(($(date +%s) / 86400))::::::"
  lines_gshadow+=${lines_gshadow:+$'\n'}"$1:!*::"
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

# The first user of the image (1000) gets the key, and what a login with it needs: a shell, and sudo without a password, because none is set. On
# Raspberry Pi OS a userconf.txt without a password prevents the wizard from renaming that user and asking for a password on the screen.
plan_ssh_key() {
  [ -n "$ssh_key" ] || return 0
  local user group home shell unit='' folder name
  IFS=: read -r user group home shell < <(awk -F: '$3 == 1000 { print $1 ":" $4 ":" $6 ":" $7 }' "$(newest passwd)") || true
  [[ ${user:-} =~ ^[a-z_][a-z0-9_-]*$ && ${home:-} =~ ^/[A-Za-z0-9_./-]+$ ]] || refuse image-user "" "$image"
  for folder in /usr/lib/systemd/system /lib/systemd/system; do
    for name in dropbear ssh; do # OpenSSH where there are both
      if ext4_has "$folder/$name.service"; then unit=$folder/$name.service; fi
    done
  done
  [ -n "$unit" ] || refuse image-sshd "" "$image"
  ext4_has "$home" || dir 0700 1000 "$group" "$home" # made on the way, it would be root's
  dir 0700 1000 "$group" "$home/.ssh"
  { if fetch "$home/.ssh/authorized_keys" keys; then ended "$work/keys"; fi; grep . -- "$ssh_key"; } |
    sort -u | file 0600 1000 "$group" "$home/.ssh/authorized_keys"
  dir 0755 root root "$settings/multi-user.target.wants"
  plan link "$unit" "$settings/multi-user.target.wants/$(basename "$unit")"
  case $shell in
    */nologin | */false | '') plan_shell "$user" "$shell" ;;
  esac
  plan_sudo "$user"
  # An existing file is kept.
  if ext4_has /usr/lib/userconf-pi/userconf && ! boot_lists | grep -Eiq '^userconf(\.txt)?$'; then
    printf '%s:*\n' "$user" >"$work/userconf.txt"
  fi
  note "log in as $user with the key of $ssh_key; no password is set"
}
# newest NAME: the changed /etc/NAME, else the one in the image
newest() { if [ -f "$work/root/etc/$1" ]; then echo "$work/root/etc/$1"; else echo "$work/$1"; fi; }

plan_shell() {
  local owner shell=/bin/sh
  if ext4_has /bin/bash || ext4_has /usr/bin/bash; then shell=/bin/bash; fi
  read -r -a owner < <(ext4_owner /etc/passwd)
  awk -F: -v OFS=: -v user="$1" -v shell="$shell" '$1 == user { $7 = shell } { print }' "$(newest passwd)" >"$work/passwd.new"
  file "${owner[@]}" /etc/passwd <"$work/passwd.new"
  note "$1 had the shell ${2:-(none)}, which refuses logins; its shell is now $shell"
}

plan_sudo() {
  local name
  ext4_has /usr/bin/sudo || return 0
  # If a password is set, sudo keeps asking for it.
  if fetch /etc/shadow shadow.now && ! awk -F: -v user="$1" '$1 == user && $2 ~ /^([!*]|$)/ { found = 1 } END { exit !found }' "$work/shadow.now"; then
    return 0
  fi
  for name in sudoers $(ext4_lists /etc/sudoers.d | grep -v '^\.' | sed 's|^|sudoers.d/|'); do
    if fetch "/etc/$name" sudoers && grep -Eq "^[[:space:]]*($1|%sudo|ALL)[[:space:]].*NOPASSWD:[[:space:]]*ALL" "$work/sudoers"; then return 0; fi
  done
  dir 0750 root root /etc/sudoers.d
  printf '# Written by flash.sh: %s logs in by key and has no password that sudo could ask for.\n%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$1" "$1" |
    file 0440 root root "/etc/sudoers.d/010_$1-nopasswd"
  note "$1 may use sudo without a password, because none is set"
}

# --- what the first boot would change --------------------------------------------------------------------------------

# Raspberry Pi Imager leaves its settings on the boot partition, for cloud-init (user-data, meta-data, network-config), for its own
# init_config (custom.toml) or as a script (firstrun.sh); DietPi has dietpi.txt there, Armbian two files on the root partition. They all
# run after this.
look_at_first_boot() {
  [ -n "$fat" ] || return 0
  local name found
  mkdir -p "$work/first/boot" "$work/first/root"
  for name in user-data meta-data network-config custom.toml firstrun.sh userconf.txt dietpi.txt; do
    boot_file "$name" >"$work/first/$name" 2>/dev/null || rm -f "$work/first/$name"
  done
  for name in /boot/armbian_first_run.txt /root/.not_logged_in_yet; do fetch "$name" "first$name" || rm -f "$work/first$name"; done
  if found=$(first_hostname); then first_boot_sets hostname "$hostname" "${found%% *}" "${found#* }"; fi
  if found=$(first_country); then first_boot_sets wifi-country "$wifi_country" "${found%% *}" "${found#* }"; fi
  if found=$(first_without_sshd); then first_boot_sets ssh-key "$ssh_key" "${found%% *}" "${found#* }"; fi
  if found=$(first_user); then note "the first boot creates the user ${found%% *}, or renames the first user to that (${found#* })"; fi
  # Raspberry Pi OS 12 and later do not read it.
  if boot_lists | grep -iqx wpa_supplicant.conf && ext4_has /usr/sbin/NetworkManager; then
    note "wpa_supplicant.conf on the boot partition is not read: this image has NetworkManager; set the Wi-Fi in Raspberry Pi Imager"
  fi
}
# first_boot_sets OPTION WANTED FOUND FILE
first_boot_sets() {
  if [ -n "$2" ] && [ "$2" != "$3" ]; then refuse image-first-boot "$3 in $4" "$image" "$1" "$(instead_of "$1" "$3" "$4")"; fi
  note "the first boot sets $1 $3 ($4)"
}
# instead_of OPTION FOUND FILE: what to do
instead_of() {
  local place="$3 on the boot partition"
  case $3 in /*) place="$3 in the image" ;; esac
  case $1 in
    ssh-key) echo "leave --ssh-key out, or change it in $place" ;;
    *) echo "give --$1 $2, or change it in $place" ;;
  esac
}
# first_value FILE EXPRESSION: VALUE FILE, if sed finds the first such line
first_value() {
  local value
  [ -f "$work/first/${1#/}" ] || return 1
  value=$(tr -d '\r' <"$work/first/${1#/}" | sed -nE "$2" | head -n 1 | tr -d "\"'")
  [ -n "$value" ] && echo "${value%% *} $1"
}
first_hostname() {
  first_value user-data 's/^(hostname|fqdn): *([^ #]+).*/\2/p' || first_value meta-data 's/^ *local-hostname: *([^ #]+).*/\1/p' ||
    first_value custom.toml '/^\[system\]/,/^\[/s/^ *hostname *= *([^ #]+).*/\1/p' ||
    first_value dietpi.txt 's/^AUTO_SETUP_NET_HOSTNAME=([^ #]+).*/\1/p' ||
    first_value firstrun.sh 's/.*(set_hostname|set-hostname) +([^ ]+).*/\2/p; s/^ *echo +([^ ]+) *> *\/etc\/hostname.*/\1/p'
}
first_country() {
  first_value network-config 's/^ *regulatory-domain: *([^ #]+).*/\1/p' || first_value custom.toml '/^\[wlan\]/,/^\[/s/^ *country *= *([^ #]+).*/\1/p' ||
    first_value dietpi.txt 's/^AUTO_SETUP_NET_WIFI_COUNTRY_CODE=([A-Z]{2}).*/\1/p' ||
    first_value /boot/armbian_first_run.txt 's/^ *FR_net_wifi_countrycode=(.*)/\1/p' ||
    first_value /root/.not_logged_in_yet 's/^ *PRESET_NET_WIFI_COUNTRYCODE=(.*)/\1/p' ||
    first_value firstrun.sh 's/.*do_wifi_country +([A-Z]{2}).*/\1/p; s/^ *country=([A-Z]{2}).*/\1/p'
}
first_user() {
  first_value user-data 's/^ *-? *name: *([a-z_][^ #]*).*/\1/p' || first_value custom.toml '/^\[user\]/,/^\[/s/^ *name *= *([^ #]+).*/\1/p' ||
    first_value /root/.not_logged_in_yet 's/^ *PRESET_USER_NAME=(.*)/\1/p' || first_value userconf.txt 's/^([^:]+):.*/\1/p'
}
# DietPi's first boot removes the ssh server if none is chosen.
first_without_sshd() { first_value dietpi.txt 's/^(AUTO_SETUP_SSH_SERVER_INDEX=0)([^0-9].*)?$/\1/p'; }

# --- the kernel's line and the radio -----------------------------------------------------------------------------------

# Raspberry Pi kernels start with the memory controller off, so MemoryMax= would have no effect. The radio's country is a kernel parameter as
# well. Until a country is set, systemd-rfkill and NetworkManager block the radio: their state files are set to "not blocked".
plan_boot() {
  local words="cgroup_enable=memory" radio state=/var/lib/NetworkManager/NetworkManager.state owner
  [ -z "$wifi_country" ] || words+=" cfg80211.ieee80211_regdom=$wifi_country"
  if [ -n "$cmdline" ]; then
    head -n 1 "$work/cmdline.txt" | grep -q '[^[:space:]]' || refuse image-empty-line "" "$image"
    # At the end, because the last parameter takes effect.
    tr -d '\r' <"$work/cmdline.txt" | head -n 1 |
      sed -E "s/(^| )cgroup_enable=memory( |\$)/ /g; ${wifi_country:+s/(^| )cfg80211\.ieee80211_regdom=[^ ]*//g;}
        s/  +/ /g; s/^ //; s/ *\$/ $words/" >"$work/cmdline.new"
    ! grep -Eq '(^| )cgroup_disable=([^ ]*,)?memory' "$work/cmdline.new" ||
      note "$cmdline has cgroup_disable=memory; cgroup_enable=memory after it overrides it"
  fi
  [ -n "$wifi_country" ] || return 0
  for radio in $(ext4_lists /var/lib/systemd/rfkill | grep ':wlan$'); do
    echo 0 | file 0644 root root "/var/lib/systemd/rfkill/$radio"
  done
  if fetch "$state" state && grep -q '^WirelessEnabled=false' "$work/state"; then
    read -r -a owner < <(ext4_owner "$state")
    sed 's/^WirelessEnabled=false/WirelessEnabled=true/' "$work/state" | file "${owner[@]}" "$state"
  fi
}
