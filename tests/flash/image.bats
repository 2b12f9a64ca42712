#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# What flash.sh puts into an image, and that it leaves nothing behind when it is stopped.

load support
setup_file() { make_all; }
setup() { enter; }
teardown() { free_loops; }

@test "an image gets program, units, bundle and account, and a clean file system" {
  flash --image image.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "contains private keys" "0600"
  [ "$(stat -c %a card.img)" = 600 ]
  [ "$(stat -c %s card.img)" = "$image_bytes" ]
  is_clean card.img
  [ "$(owner card.img /usr/bin/sanedge)" = "0755 0 0 " ]
  inside card.img /usr/bin/sanedge | cmp - program
  for unit in sanedge.service sanedge-https.socket sanedge-settle.service sanedge-renew.service sanedge-renew.timer sanedge-deploy.service sanedge-deploy.path; do
    inside card.img "/usr/lib/systemd/system/$unit" | cmp - "$repository/systemd/$unit"
  done
  # 999 and 998 are taken in the image.
  [ "$(inside card.img /etc/passwd | grep sanedge)" = "sanedge:x:997:997:sanedge, the TLS edge:/nonexistent:/usr/sbin/nologin
sanedge-acme:x:996:996:sanedge, certificates from the CA:/nonexistent:/usr/sbin/nologin" ]
  [ "$(inside card.img /etc/group | tail -n 3)" = $'pi:x:1000:\nsanedge:x:997:\nsanedge-acme:x:996:' ]
  [[ $(inside card.img /etc/shadow | tail -n 2 | head -n 1) =~ ^sanedge:!\*:[0-9]{5}::::::$ ]]
  [[ $(inside card.img /etc/shadow | tail -n 1) =~ ^sanedge-acme:!\*:[0-9]{5}::::::$ ]]
  [ "$(owner card.img /etc/shadow)" = "0640 0 42 " ]
  [ "$(owner card.img /etc/sanedge)" = "0751 0 997 " ]
  [ "$(owner card.img /etc/sanedge/sanedge.bundle)" = "0640 0 997 " ]
  (umask 077 && inside card.img /etc/sanedge/sanedge.bundle >back.bundle)
  "$(host_sanedge)" show back.bundle | grep -q socket.recre.store
  only_the_image_is_left
}

@test "units are enabled, and port 80 only where the bundle has it" {
  flash --image image.img --out card.img
  wants=/etc/systemd/system
  [ "$(target_of card.img $wants/multi-user.target.wants/sanedge.service)" = /usr/lib/systemd/system/sanedge.service ]
  [ "$(target_of card.img $wants/multi-user.target.wants/sanedge-settle.service)" = /usr/lib/systemd/system/sanedge-settle.service ]
  [ "$(target_of card.img $wants/sockets.target.wants/sanedge-https.socket)" = /usr/lib/systemd/system/sanedge-https.socket ]
  [ "$(target_of card.img $wants/sockets.target.wants/sanedge-admin.socket)" = /usr/lib/systemd/system/sanedge-admin.socket ]
  [ "$(target_of card.img $wants/timers.target.wants/sanedge-renew.timer)" = /usr/lib/systemd/system/sanedge-renew.timer ]
  [ "$(target_of card.img $wants/paths.target.wants/sanedge-deploy.path)" = /usr/lib/systemd/system/sanedge-deploy.path ]
  is_not_in card.img $wants/sockets.target.wants/sanedge-http.socket
  is_not_in card.img $wants/sanedge-https.socket.d/50-bundle.conf
}

@test "the sockets listen where the bundle says, the unit gets the board's memory and time to drain" {
  rm sanedge.toml
  { echo 'drain_timeout = "5m"'; config rpi4 $'https = ["[::]:8443", "0.0.0.0:9443"]\nhttp = ["[::]:80"]'; } >sanedge.toml
  flash --image image.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  inside card.img /etc/systemd/system/sanedge-https.socket.d/50-bundle.conf >https.conf
  diff <(grep -v '^#' https.conf) <(printf '%s\n' '[Socket]' ListenStream= 'ListenStream=[::]:8443' ListenStream=0.0.0.0:9443)
  is_in card.img /etc/systemd/system/sockets.target.wants/sanedge-http.socket
  inside card.img /etc/systemd/system/sanedge.service.d/50-board.conf >board.conf
  grep -qx 'MemoryMax=1536M' board.conf
  grep -qx 'TimeoutStopSec=315s' board.conf
}

@test "an image that was flashed before keeps its account and takes the new bundle" {
  flash --image image.img --out once.img
  rm sanedge.toml && config rpi4 'https = ["[::]:443"]
http = ["[::]:80"]' >sanedge.toml
  flash --image once.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  is_clean card.img
  [ "$(inside card.img /etc/passwd | grep -c sanedge)" = 2 ]
  [ "$(owner card.img /etc/sanedge/sanedge.bundle)" = "0640 0 997 " ]
  is_in card.img /etc/systemd/system/sockets.target.wants/sanedge-http.socket
  # ... and back: what the bundle no longer has is gone.
  rm sanedge.toml && config rpi4 >sanedge.toml
  flash --image card.img --out again.img
  is_not_in again.img /etc/systemd/system/sockets.target.wants/sanedge-http.socket
  [ "$(cmdline again.img | grep -o cgroup_enable=memory | wc -l)" = 1 ]
}

@test "the kernel's line gets the memory controller, and nothing else is lost" {
  flash --image image.img --out card.img
  [ "$(cmdline card.img)" = "console=serial0,115200 root=PARTUUID=1-02 rootwait quiet cgroup_enable=memory" ]
  [ "$(cmdline image.img)" = "console=serial0,115200 root=PARTUUID=1-02 rootwait quiet" ]
}

@test "name, key and country of the radio" {
  flash --image image.img --out card.img --hostname edge --ssh-key id.pub --wifi-country DE
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ "$(inside card.img /etc/hostname)" = edge ]
  inside card.img /etc/hosts | diff - <(printf '127.0.0.1\tlocalhost\n127.0.1.1\tedge\n')
  inside card.img /home/pi/.ssh/authorized_keys | diff - id.pub
  [ "$(owner card.img /home/pi/.ssh/authorized_keys)" = "0600 1000 1000 " ]
  [ "$(owner card.img /home/pi/.ssh)" = "0700 1000 1000 " ]
  [ "$(target_of card.img /etc/systemd/system/multi-user.target.wants/ssh.service)" = /usr/lib/systemd/system/ssh.service ]
  [[ $(cmdline card.img) == *" cfg80211.ieee80211_regdom=DE" ]]
  [ "$(inside card.img /var/lib/systemd/rfkill/platform-fe300000.mmcnr:wlan)" = 0 ]
}

@test "the board is asked no questions where it is Raspberry Pi OS" {
  cp image.img os.img
  printf 'mkdir /usr/lib/userconf-pi\ncd /usr/lib/userconf-pi\nwrite program userconf\n' >commands
  debugfs -w -f commands "os.img?offset=$ext4_at" >/dev/null 2>&1
  flash --image os.img --out card.img --ssh-key id.pub
  [ "$(mtype -i "card.img@@$fat_at" ::userconf.txt)" = 'pi:*' ]
}

# A repository of its own in ./own, with a cross/build.sh that makes no program but copies one.
own_repository() {
  mkdir -p own/cross
  cp "$flash" own/
  ln -s "$repository"/{boards,flash,systemd,Cargo.toml} own/
  printf '#!/bin/sh\necho "$1" >built\nmkdir -p "$CARGO_TARGET_DIR/boards/$1"\ncp program "$CARGO_TARGET_DIR/boards/$1/sanedge"\n' >own/cross/build.sh
  chmod +x own/cross/build.sh
  flash=$PWD/own/flash.sh
}

@test "the program for the board is built where none is given" {
  own_repository
  CARGO_TARGET_DIR=$PWD/target run "$flash" --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --image image.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ "$(cat built)" = rpi4 ]
  inside card.img /usr/bin/sanedge | cmp - program
}

@test "stopped while the program is built, it takes the compilers along" {
  own_repository
  # A build that starts a program that starts another, as cargo does.
  printf '#!/bin/bash\nbash -c "sleep 100 & echo \\$! >below; wait; :"; :\n' >own/cross/build.sh
  "$flash" --board rpi4 --config sanedge.toml --sanedge "$(host_sanedge)" --image image.img --out card.img >said 2>&1 3>&- &
  local pid=$! status=0 below
  for _ in {1..300}; do [ ! -s below ] || break; sleep 0.1; done
  below=$(cat below)
  kill -TERM "$pid"
  wait "$pid" || status=$?
  [ "$status" -eq 143 ] || { cat said; false; }
  gone "$below"
  nothing_left
}

@test "an image that tells little of itself is taken with a note" {
  cp image.img bare.img
  printf 'rm /usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-252.so\nrm /usr/bin/dpkg\nrm /etc/passwd\nrm /etc/shadow\n' >commands
  debugfs -w -f commands "bare.img?offset=$ext4_at" >/dev/null 2>&1
  flash --image bare.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "no program that shows" "no systemd" "no accounts"
  is_clean card.img
  # Nobody but root can read the bundle until the account is there.
  [ "$(owner card.img /etc/sanedge/sanedge.bundle)" = "0640 0 0 " ]
  inside card.img /etc/tmpfiles.d/sanedge-bundle.conf | grep -qx 'z /etc/sanedge/sanedge.bundle 0640 root sanedge -'
}

@test "packed images" {
  xz -0 <image.img >a.img.xz
  gzip -1 <image.img >a.img.gz
  zstd -q -1 <image.img >a.img.zst
  for packed in a.img.xz a.img.gz a.img.zst; do
    flash --image "$packed" --out card.img
    [ "$status" -eq 0 ] || { echo "$output"; false; }
    [ "$(stat -c %s card.img)" = "$image_bytes" ]
    is_in card.img /etc/sanedge/sanedge.bundle
    mv card.img "$packed.card"
  done
}

@test "an older card.img is replaced, and folders with odd names will do" {
  mkdir 'a folder? @@1'
  echo old >'a folder? @@1/card.img'
  chmod 644 'a folder? @@1/card.img'
  flash --image image.img --out 'a folder? @@1/card.img'
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  [ "$(stat -c '%a %s' 'a folder? @@1/card.img')" = "600 $image_bytes" ]
}

@test "a dry run prints every step and changes nothing" {
  find . "$TMPDIR" | sort >before
  flash --image image.img --out card.img --hostname edge --wifi-country DE --dry-run
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "/usr/bin/sanedge  0755 root:root" "/etc/sanedge/sanedge.bundle  0640 root:sanedge" "/etc/hostname" \
    "cgroup_enable=memory cfg80211.ieee80211_regdom=DE" "card.img, mode 0600" "nothing was changed"
  find . "$TMPDIR" | sort | grep -v before | diff <(grep -v before before) -
  cmp image.img "$BATS_FILE_TMPDIR/image.img"
}

@test "stopped at any point it leaves nothing, and the older card.img" {
  local tool at stopped=0
  gzip -1 <image.img >image.img.gz
  for tool in gzip:1 e2fsck:1 debugfs:1 debugfs:20 debugfs:40 debugfs:60 mcopy:1 mcopy:2 e2fsck:2 mcopy:3 sync:1 mv:1; do
    at=${tool#*:} tool=${tool%:*}
    echo older >card.img
    rm -f "$BATS_TEST_TMPDIR"/bin/* "$BATS_TEST_TMPDIR/count"
    # The stand-in stops flash.sh at the given call of the tool, and then waits to be ended itself or does its work.
      stand_in "$tool" 'echo >>"'"$BATS_TEST_TMPDIR"'/count"
if [ "$(wc -l <"'"$BATS_TEST_TMPDIR"'/count")" -eq '"$at"' ]; then kill -TERM "$(cat "'"$BATS_TEST_TMPDIR"'/pid")"; fi
exec "$real" "$@"'
    run bash -c 'echo $$ >"$1"; shift; exec "$@"' - "$BATS_TEST_TMPDIR/pid" "$flash" --board rpi4 --config sanedge.toml \
      --sanedge "$(host_sanedge)" --binary program --image image.img.gz --out card.img
    rm -f "$BATS_TEST_TMPDIR"/bin/*
    [ "$(wc -l <"$BATS_TEST_TMPDIR/count")" -ge "$at" ] || { echo "$tool was called fewer than $at times"; false; }
    # What was asked to stop while `mv` ran may be done, whole.
    if [ "$tool" = mv ] && [ "$(head -c 5 card.img)" != older ]; then
      is_clean card.img
    else
      # 143, or 2 where bash 5.2 heard of it amid a command substitution and could not read its own trap.
      [ "$status" -eq 143 ] || [ "$status" -eq 2 ] || { echo "$tool $at: exit $status: $output"; false; }
      [ "$(cat card.img)" = older ]
    fi
    only_the_image_is_left
    stopped=$((stopped + 1))
  done
  [ "$stopped" -eq 12 ]
}
