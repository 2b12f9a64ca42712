# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# What goes onto the board: one list, for images and for running boards.

#
# $work/root has the files by their path on the board, $work/plan their kind and mode, in this order:
#   dir|file MODE OWNER GROUP PATH      link TARGET PATH      gone PATH

plan() { printf '%s\n' "$*" >>"$work/plan"; }
dir() { plan dir "$@"; }
# file MODE OWNER GROUP PATH <contents
file() {
  mkdir -p "$work/root$(dirname "$4")"
  cat >"$work/root$4"
  plan file "$@"
}

units=/usr/lib/systemd/system settings=/etc/systemd/system

plan_edge() {
  : >"$work/plan"
  file 0755 root root /usr/bin/sanedge <"$binary"
  file 0644 root root /usr/lib/sysusers.d/sanedge.conf <"$here/systemd/sysusers.conf"
  file 0644 root root /usr/lib/tmpfiles.d/sanedge.conf <"$here/systemd/tmpfiles.conf"
  local unit
  for unit in sanedge.service sanedge-https.socket sanedge-http.socket sanedge-admin.socket sanedge-port@.service \
    sanedge-settle.service sanedge-renew.service sanedge-renew.timer sanedge-deploy.service sanedge-deploy.path; do
    file 0644 root root "$units/$unit" <"$here/systemd/$unit"
  done
  file 0755 root root /usr/lib/sanedge/who-has-port <"$here/flash/ports.sh"
  dir 0751 root sanedge /etc/sanedge
  file 0640 root sanedge /etc/sanedge/sanedge.bundle <"$work/sanedge.bundle"
  plan_managed
  dir 0755 root root "$settings/sanedge.service.d"
  board_settings | file 0644 root root "$settings/sanedge.service.d/50-board.conf"
  [ "$systemd_version" -lt 254 ] || file 0644 root root "$units/sanedge.service.d/50-backoff.conf" <"$here/systemd/50-backoff.conf"
  plan gone "$units/sanedge.service.d/00-before.conf" # by which an upgrade of the package starts its old program
  enable sanedge.service
  enable sanedge-settle.service
  # They run only if sanedge.acme exists.
  enable sanedge-renew.timer
  enable sanedge-deploy.path
  socket https "$(listener https)"
  socket http "$(listener http)"
  socket admin "$(admin_socket)"
}

# The board's budget as a limit that the kernel enforces, and enough time for a stop.
board_settings() {
  local drain stop
  drain=$(drain_timeout_ms)
  stop=$((${drain:-0} / 1000 + 15))
  printf '# Written by flash.sh for %s.\n[Service]\nMemoryMax=%s\n' "$board" "${budget%iB}"
  [ "$stop" -le 75 ] || printf '# drain_timeout of the bundle, and some.\nTimeoutStopSec=%ss\n' "$stop"
}

# A socket unit with the listeners of the bundle; none if the bundle has none.
socket() {
  local unit=sanedge-$1.socket addresses=$2 folder=$settings/sanedge-$1.socket.d
  if [ -z "$addresses" ]; then
    enable "$unit" gone
    plan gone "$folder/50-bundle.conf"
    return
  fi
  enable "$unit"
  if [ "$addresses" = "$(usual_address "$1")" ]; then
    plan gone "$folder/50-bundle.conf"
    return
  fi
  dir 0755 root root "$folder"
  {
    printf '# Written by flash.sh: what sanedge.toml says.\n[Socket]\nListenStream=\n'
    printf '%s\n' "$addresses" | sed 's/^/ListenStream=/'
  } | file 0644 root root "$folder/50-bundle.conf"
}
usual_address() {
  case $1 in
    https) echo '[::]:443' ;;
    http) echo '[::]:80' ;;
    admin) echo /run/sanedge/admin.sock ;;
  esac
}

# What `systemctl enable` would do, from the unit's [Install]; with `gone` the reverse.
enable() {
  local wanted
  while read -r wanted; do
    if [ "${2:-}" = gone ]; then
      plan gone "$settings/$wanted.wants/$1"
    else
      dir 0755 root root "$settings/$wanted.wants"
      plan link "$units/$1" "$settings/$wanted.wants/$1"
    fi
  done < <(sed -n 's/^WantedBy=//p' "$here/systemd/$1")
}
