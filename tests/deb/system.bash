# shellcheck shell=bash disable=SC2034,SC2154  # sourced by run and flash, which use and set the variables
#
# A clean Debian, entered by chroot or booted with its own systemd in namespaces; and what the trials have in common.

builds=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$builds"
scratch=$(mktemp -d)
root=$scratch/root
booted='' cgroup='' networks=()
held='' # set by the last line of a trial: after a signal the status is that of the command before
units='sanedge-https.socket sanedge-http.socket sanedge-admin.socket sanedge.service'

finish() {
  local status=$?
  if [ "$status" -ne 0 ] && [ -n "$booted" ] && [ -d "$root/var/log/journal" ]; then
    inside journalctl --no-pager -n 40 >&2 || true
  fi
  # shellcheck disable=SC2046,SC2086 # a word for each
  kill -KILL $booted $(jobs -p) 2>/dev/null || true
  { end_networks; wait; } 2>/dev/null || true # bash says of each that it was killed
  if [ -n "$cgroup" ]; then
    for _ in {1..100}; do # until the last of its processes is gone
      find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
  fi
  if mountpoint -q "$root"; then umount -l "$root"; fi
  rm -rf "$scratch"
  [ "$status" -eq 0 ] && [ -n "$held" ] && printf 'all of it holds\n' || printf 'FAILED\n'
}
trap finish EXIT

# The servers of a trial are on the network of the system that was booted and otherwise outside of it: they end neither with it nor with
# the shell that started them. Again until none is found, because one that is killed may have started another.
end_networks() {
  local number processes
  for number in "${networks[@]}"; do
    for _ in {1..100}; do
      processes=$({ find /proc/[0-9]*/ns/net -maxdepth 0 -printf '%l %p\n' 2>/dev/null || true; } |
        sed -n "s|^net:\[$number\] /proc/\([0-9]*\)/.*|\1|p")
      [ -n "$processes" ] || break
      # shellcheck disable=SC2086 # a word for each
      kill -KILL $processes 2>/dev/null || true
      sleep 0.1
    done
  done
}

step() { printf '%3d s  %s\n' "$SECONDS" "$*"; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"; }
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ "$SECONDS" -lt "$end" ] || fail "not within time: $*"; sleep 0.1; done
}

needs() {
  local tool
  [ "$(id -u)" -eq 0 ] || fail 'needs root: it makes a system and enters it'
  for tool in mmdebstrap curl openssl python3 unshare nsenter "$@"; do
    command -v "$tool" >/dev/null || fail "needs $tool"
  done
}

# clean_system SUITE: a new one in $root, unpacked from what is made once
clean_system() {
  local clean=$builds/$1-amd64-upgrades.tar
  if [ ! -f "$clean" ]; then
    step "making a clean Debian $1"
    mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,dbus,needrestart,unattended-upgrades "$1" "$clean.new"
    mv "$clean.new" "$clean"
  fi
  mkdir -p "$root"
  tar -xf "$clean" -C "$root"
  # Nothing of apt's begins by itself.
  in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
}

# The running system: processes in it, its network from outside, one that boots again.
inside() { nsenter -t "$booted" -m -u -i -n -p -C env -i LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
on_its_network() { nsenter -t "$booted" -n "$@"; }
is_systemd() { booted=$(pgrep -P "$boot") && [ "$(cat "/proc/$booted/comm")" = systemd ]; }
is_up() { { inside systemctl is-system-running 2>/dev/null || true; } | grep -q -e running -e degraded; } # `degraded` is a 1
boot() {
  local unified
  unified=$(findmnt -n --first-only -t cgroup2 -o TARGET)
  [ -n "$unified" ] || fail 'needs a cgroup2 file system'
  cgroup=$unified/sanedge-test.$$
  mkdir -p "$cgroup"
  "$(dirname "${BASH_SOURCE[0]}")/boot" "$root" "$cgroup" >"$scratch/console" 2>&1 </dev/null &
  boot=$!
  until_true 20 is_systemd
  # As long as a process is in it, the number is of no other network.
  on_its_network sleep infinity &
  networks+=("$(stat -Lc %i "/proc/$booted/ns/net")")
  until_true 60 is_up
  on_its_network ip link set lo up
}
# As the power goes: every process at once, before one of them can see that another has ended.
is_frozen() { grep -qx 'frozen 1' "$cgroup/cgroup.events"; }
power_off() {
  echo 1 >"$cgroup/cgroup.freeze"
  until_true 20 is_frozen
  kill -KILL "$booted"
  until_true 20 has_ended "$booted"
  echo 0 >"$cgroup/cgroup.freeze"
  wait "$boot" 2>/dev/null || true
  for _ in {1..100}; do
    find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
  booted=''
}

# As `poweroff` does it: every unit is stopped first.
shut_down() {
  inside systemctl --no-block poweroff
  until_true 120 has_ended "$boot"
  wait "$boot" 2>/dev/null || true
  find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
  booted=''
}
has_ended() { ! kill -0 "$1" 2>/dev/null || [ "$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)" = Z ]; }

# ca.pem, chain.pem and key.pem in $scratch, for example.org and socket.example.org
certificates() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj /CN=test -keyout "$scratch/ca.key" \
    -out "$scratch/ca.pem" -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=example.org -keyout "$scratch/key.pem" \
    -out "$scratch/csr.pem" 2>/dev/null
  openssl x509 -req -in "$scratch/csr.pem" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" -CAcreateserial -days 50 -out \
    "$scratch/chain.pem" -extfile <(printf 'subjectAltName=DNS:example.org,DNS:socket.example.org\nextendedKeyUsage=serverAuth\n') \
    2>/dev/null
}
# get ADDRESS [PORT]: the status of the page there
get() { on_its_network curl --silent --show-error --max-time 20 --cacert "$scratch/ca.pem" --resolve "example.org:${2:-443}:$1" \
  --output /dev/null --write-out '%{http_code}' "https://example.org:${2:-443}/"; }
main_pid() { inside systemctl show -P MainPID sanedge.service; }
# runs FILE: whether that is the program of the edge. A name would not do: the old program may be mounted on that of the new one.
runs() { [ "$(inside stat -L -c %d:%i "/proc/$(main_pid)/exe")" = "$(inside stat -L -c %d:%i "$1")" ]; }
# An app on port 3000 of its network, which has everything.
app() {
  mkdir -p "$scratch/app"
  on_its_network python3 -m http.server --bind 127.0.0.1 --directory "$scratch/app" 3000 >/dev/null 2>&1 &
  until_true 20 on_its_network curl --silent --output /dev/null http://127.0.0.1:3000/
}
