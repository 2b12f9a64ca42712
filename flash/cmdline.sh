# shellcheck shell=sh
#
# The kernel parameters in the file that the firmware of a Raspberry Pi reads; for images and running boards, so it is POSIX sh.
# The caller has a function `boot_file NAME` that prints a file of the boot partition, or fails.

# config_lines NAME DEPTH: a config file with the files that it includes, as the firmware reads it
config_lines() {
  [ "$2" -lt 8 ] || return 0 # as deep as the firmware follows, or deeper
  boot_file "$1" | tr -d '\r' | while IFS= read -r config_line || [ -n "$config_line" ]; do
    case $config_line in
      'include '*) config_lines "${config_line#include }" $(($2 + 1)) ;;
      *) printf '%s\n' "$config_line" ;;
    esac
  done || : # one that is not there changes nothing
}

# The filters of config.txt that apply to a board.
config_filters() {
  case $1 in
    rpi-zero) echo ' all pi0 pi0w pi1 ' ;;
    rpi-zero2w) echo ' all pi0 pi02 ' ;;
    rpi2) echo ' all pi2 ' ;;
    rpi3) echo ' all pi3 pi3+ ' ;;
    rpi4) echo ' all pi4 pi400 cm4 ' ;;
    rpi5) echo ' all pi5 pi500 cm5 ' ;;
    *) echo ' all ' ;;
  esac
}

# cmdline_file BOARD: the file whose first line the kernel of this board gets
cmdline_file() {
  config_lines config.txt 0 2>/dev/null | awk -v filters="$(config_filters "$1")" '
    BEGIN { applies = 1; name = "cmdline.txt" }
    /^[ \t]*\[/ { gsub(/[][ \t]/, ""); applies = index(filters, " " tolower($0) " ") > 0; next }
    applies && sub(/^[ \t]*os_prefix=/, "") { prefix = $0 }
    applies && sub(/^[ \t]*cmdline=/, "") { name = $0 }
    END { print prefix name; if (prefix != "") print name; if (name != "cmdline.txt") print "cmdline.txt" }
  ' | while IFS= read -r candidate; do
    if boot_file "$candidate" >/dev/null 2>&1; then printf '%s\n' "$candidate"; break; fi
  done
}

# Whether a line of parameters enables the memory controller: whole words, and the last one takes effect.
memory_is_on() {
  printf '%s\n' "$1" | awk '
    { for (at = 1; at <= NF; at++) {
        if ($at !~ /^cgroup_(enable|disable)=/) continue
        count = split(substr($at, index($at, "=") + 1), names, ",")
        for (one = 1; one <= count; one++) if (names[one] == "memory") on = $at ~ /^cgroup_enable=/
    } }
    END { exit !on }'
}
