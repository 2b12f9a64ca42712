#!/bin/sh
# Which program uses a port. On a board this is /usr/lib/sanedge/who-has-port, which sanedge-port@.service runs if a socket unit could not
# listen: it names the unit, the port and the program in the journal, and resets the failed unit. The installation on a running board
# (board.sh) contains it as well, so it is POSIX sh.

# listening PORT ADDRESS: the inode of a socket that prevents this listener, if there is one. Addresses in /proc/net/tcp are in the machine's
# byte order; a socket on all addresses (zeros) prevents every listener.
listening() {
  cat "${root:-}/proc/net/tcp" "${root:-}/proc/net/tcp6" 2>/dev/null | awk -v port="$(printf %04X "$1")" -v address="$2" '
    function hex(four,    byte) {
      if (split(four, byte, ".") != 4) return ""
      return sprintf("%02X%02X%02X%02X", byte[4], byte[3], byte[2], byte[1])
    }
    BEGIN { ours = hex(address); everywhere = address == "::" || address == "0.0.0.0" }
    $4 == "0A" && split($2, local, ":") == 2 && local[2] == port &&
      (everywhere || local[1] ~ /^0+$/ || local[1] == ours) { print $10; exit }'
}
# The process with this socket: PID NAME. Process 1 has those of all socket units.
holder() {
  for process in "${root:-}"/proc/[0-9]*; do
    # shellcheck disable=SC2010 # the targets of links: there are many, without unusual names
    if ls -l "$process/fd" 2>/dev/null | grep -q "socket:\[$1\]$"; then
      echo "${process##*/} $(cat "$process/comm" 2>/dev/null)"
      return
    fi
  done
}
# The socket unit for which systemd listens on a port.
socket_unit() {
  systemctl list-sockets --no-legend 2>/dev/null | awk -v port=":$1" '
    substr($1, length($1) - length(port) + 1) == port { print $2; exit }'
}
# TCP addresses of a socket unit: PORT ADDRESS, one a line.
addresses_of() { systemctl show --property=Listen --value "$1" | sed -n 's/^\[\{0,1\}\(.*[^]]\)\]\{0,1\}:\([0-9][0-9]*\) (.*/\2 \1/p'; }
# Active socket units with an address on which nothing listens: at a reload, systemd closes the listener of an edited unit, and opens the new
# one only at the unit's next start.
closed_sockets() {
  systemctl list-units --plain --no-legend --state=active "$@" | while read -r unit _; do
    addresses_of "$unit" | while read -r port ip; do
      [ -n "$(listening "$port" "$ip")" ] || echo "$unit"
    done
  done
}
# port_holder PORT ADDRESS: PID NAME of the program that prevents a listener there, `1 systemd for UNIT` for a socket unit, or nothing
port_holder() {
  inode=$(listening "$1" "$2")
  [ -n "$inode" ] || return 0
  found=$(holder "$inode")
  case $found in
    '') echo '? unknown' ;;
    '1 '*) echo "1 systemd for $(socket_unit "$1")" ;;
    *) echo "$found" ;;
  esac
}

# who_has_port NAME: reports it for the failed unit NAME.socket
who_has_port() {
  unit=$1.socket
  taken=''
  while read -r port ip; do
    found=$(port_holder "$port" "$ip")
    [ -n "$found" ] || continue
    taken=1
    echo "$unit cannot listen on port $port: process $found uses it. Stop that process, or give it another port, or use another port here" \
      "([listen] in sanedge.toml, and \`systemctl edit $unit\`); then: systemctl start $unit sanedge.service" >&2
  done <<LISTEN
$(addresses_of "$unit")
LISTEN
  if [ -z "$taken" ]; then
    echo "$unit failed, and no other program uses its ports: see journalctl -u $unit" >&2
    return
  fi
  systemctl reset-failed "$unit"
}

case ${0##*/} in who-has-port) who_has_port "$1" ;; esac
