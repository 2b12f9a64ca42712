# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# Output, the progress of long commands, and cleaning up at the end. Refusals: refuse.sh.

# step: a dry run only prints it.  doing: a dry run does it as well, because it changes nothing.
step() { printf '%s %s\n' "${dry:-==>}" "$*"; }
doing() { printf '==> %s\n' "$*"; }
note() { printf 'note  %s\n' "$*"; }
detail() { printf '      %s\n' "$*"; }
wrong_usage() {
  printf 'error %s\n      ./flash.sh --help shows the options\n' "$1" >&2
  exit 2
}
mebibytes() { echo "$((($1 + 1048575) / 1048576)) MiB"; }
size_of() { stat -Lc %s -- "$1"; }

# need TOOL PACKAGE
need() {
  command -v "$1" >/dev/null ||
    refuse tool-missing nothing "$1" "$2"
}

# Runs a long command in the background, so that signals are handled at once, and shows the progress of its descriptor, or for `-` the elapsed
# time.
#   watched LABEL BYTES_TOTAL DESCRIPTOR|- COMMAND…      (0 bytes: the total is not known)
# COMMAND is a program or `build`: within another function it would be a grandchild, which outlives its parent.
child=''
watched() {
  local label=$1 total=$2 descriptor=$3 from=$SECONDS shown=$SECONDS at
  shift 3
  "$@" <&0 &
  child=$!
  while sleep 0.2 && kill -0 "$child" 2>/dev/null; do
    if [ "$descriptor" = - ]; then
      at="$((SECONDS - from)) s"
    else
      at=$(sed -n 's/^pos:[[:space:]]*//p' "/proc/$child/fdinfo/$descriptor" 2>/dev/null) || continue
      at=$(mebibytes "${at:-0}")$(of_total "$total")
    fi
    if [ -t 2 ]; then
      printf '\r      %s: %s ' "$label" "$at" >&2
    elif [ $((SECONDS - shown)) -ge 10 ]; then # into a file: a line now and then
      shown=$SECONDS
      detail "$label: $at" >&2
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
  local status=0
  wait "$child" || status=$?
  child=''
  return "$status"
}
# A build contains no secrets. It runs in a separate session, without questions, so that all of it can be stopped.
build() { umask 022 && exec setsid "$@"; }
of_total() { [ "$1" -eq 0 ] || printf ' of %s' "$(mebibytes "$1")"; }

# --- cleaning up at the end -----------------------------------------------------------------------------------------

work='' unfinished='' card_begun='' there=''
leave() {
  local status=$?
  trap - EXIT
  # A build is a process group with compilers in it; any other command is one process.
  [ -z "$child" ] || kill -- "-$child" 2>/dev/null || kill "$child" 2>/dev/null || true
  [ -z "$there" ] || clear_board
  [ -z "$work" ] || [ ! -S "$work/ssh" ] || ssh -o ControlPath="$work/ssh" -O exit -- "$host" 2>/dev/null || true
  [ -z "$unfinished" ] || rm -f -- "$unfinished"
  [ -z "$work" ] || rm -rf -- "$work"
  [ -z "$card_begun" ] ||
    printf 'error %s is not complete and will not boot: write it again\n' "$device" >&2
  exit "$status"
}
# The folder contains keys. Once `install` has begun there, it needs the folder and removes it itself, also if the connection is lost.
clear_board() {
  on_board -- "$host" sh <<<"[ -e $there/begun ] || rm -rf $there" >/dev/null ||
    printf 'error private keys may be left on %s: remove %s there\n' "$host" "$there" >&2
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
