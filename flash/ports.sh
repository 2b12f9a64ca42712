#!/bin/sh
# Which program has a port. On a board it is /usr/lib/sanedge/who-has-port, which sanedge-port@.service runs when a socket unit could not
# listen: it names the unit, the port and the program in the journal, and leaves no failed unit. It is also part of the installation on
# a running board (board.sh), so in POSIX sh.

# listening PORT ADDRESS: the inode of a socket of this machine that is in the way of this listener, if there is one. An address in
# /proc/net/tcp has its bytes in the order of the machine; that of all addresses is zeros, and in the way of each.
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
# The process that has a socket: PID NAME. Process 1 holds those of all socket units.
holder() {
  for process in "${root:-}"/proc/[0-9]*; do
    # shellcheck disable=SC2010 # what the links point to, of which there are many and no odd names
    if ls -l "$process/fd" 2>/dev/null | grep -q "socket:\[$1\]$"; then
      echo "${process##*/} $(cat "$process/comm" 2>/dev/null)"
      return
    fi
  done
}
# The socket unit for which systemd has a port.
socket_unit() {
  systemctl list-sockets --no-legend 2>/dev/null | awk -v port=":$1" '
    substr($1, length($1) - length(port) + 1) == port { print $2; exit }'
}
# TCP addresses of a socket unit: PORT ADDRESS, one a line.
addresses_of() { systemctl show --property=Listen --value "$1" | sed -n 's/^\[\{0,1\}\(.*[^]]\)\]\{0,1\}:\([0-9][0-9]*\) (.*/\2 \1/p'; }
# Active socket units with an address where nothing listens: systemd closes the listener of a unit that was edited when it reloads, and
# opens the new one only at the unit's next start.
closed_sockets() {
  systemctl list-units --plain --no-legend --state=active "$@" | while read -r unit _; do
    addresses_of "$unit" | while read -r port ip; do
      [ -n "$(listening "$port" "$ip")" ] || echo "$unit"
    done
  done
}
# port_holder PORT ADDRESS: PID NAME of what is in the way of a listener there, `1 systemd for UNIT` for a socket unit; nothing if nothing is
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

# who_has_port NAME: of the unit NAME.socket, which has failed
who_has_port() {
  unit=$1.socket
  taken=''
  while read -r port ip; do
    found=$(port_holder "$port" "$ip")
    [ -n "$found" ] || continue
    taken=1
    echo "$unit cannot listen on port $port: process $found has it. Stop that, or give it another port, or listen elsewhere" \
      "([listen] in sanedge.toml, and \`systemctl edit $unit\`); then: systemctl start $unit sanedge.service" >&2
  done <<LISTEN
$(addresses_of "$unit")
LISTEN
  if [ -z "$taken" ]; then
    echo "$unit failed, and no other program has its ports: see journalctl -u $unit" >&2
    return
  fi
  systemctl reset-failed "$unit"
}

case ${0##*/} in who-has-port) who_has_port "$1" ;; esac
