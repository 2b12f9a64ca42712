# shellcheck shell=sh
#
# The checks of flash.sh on a board before it changes anything; `sh` reads them from stdin. A login may print other text as well: the answers are
# the lines that begin with a fixed word.
export LC_ALL=C
root=${SANEDGE_ROOT:-}
answer() { printf 'sanedge-probe %s\n' "$*"; }

answer machine "$(uname -m)"
answer systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
answer boot "$(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null)"
if [ "$(id -u)" = 0 ]; then answer sudo needless
elif ! command -v sudo >/dev/null 2>&1; then answer sudo missing
elif said=$(sudo -n true 2>&1); then answer sudo free
else
  case $said in
    *'must have a tty'*) answer sudo terminal ;; # `requiretty` in sudoers; whether it asks for a password is not known
    *) answer sudo password ;;
  esac
fi

# Folder, mount, kind and mode of what the edge is written to: the last of the longest mount points that the folder is below.
for folder in /usr/bin /usr/lib/systemd/system /etc/sanedge /var/lib; do
  answer place "$folder $(awk -v folder="$folder/" '
    { point = $2; if (point !~ /\/$/) point = point "/" }
    index(folder, point) == 1 && length(point) >= longest {
      longest = length(point); kind = $3
      mode = $4 ~ /^ro(,|$)/ ? "ro" : "rw"; at = $2
    }
    END { print at, kind, mode }' "$root/proc/self/mounts" 2>/dev/null)"
done
for folder in /tmp /var/tmp; do
  [ ! -w "$folder" ] || answer temporary "$folder $(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')"
done
