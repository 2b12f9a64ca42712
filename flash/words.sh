# shellcheck shell=bash disable=SC2015,SC2034,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# What is said, how a long command is watched, and what is cleared away at the end. Refusals: refuse.sh.

# step: what a dry run only tells.  doing: what it does as well, because it changes nothing.
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

# Runs a long command beside us, so that a signal to us is heard at once, and shows how far its descriptor has come, or
# for `-` how long it has taken.
#   watched LABEL BYTES_TOTAL DESCRIPTOR|- COMMAND…      (0 bytes: the total is not known)
# COMMAND is a program or `build`: below another function it would be a child's child, which outlives its parent.
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
# What is built here is nobody's secret. In a session of its own, so that all of it can be stopped: it asks nobody anything.
build() { umask 022 && exec setsid "$@"; }
of_total() { [ "$1" -eq 0 ] || printf ' of %s' "$(mebibytes "$1")"; }

# --- what is left when we go ----------------------------------------------------------------------------------------

work='' unfinished='' card_begun='' there=''
leave() {
  local status=$?
  trap - EXIT
  # A build is a group of its own, with compilers in it; anything else is one process.
  [ -z "$child" ] || kill -- "-$child" 2>/dev/null || kill "$child" 2>/dev/null || true
  [ -z "$there" ] || clear_board
  [ -z "$work" ] || [ ! -S "$work/ssh" ] || ssh -o ControlPath="$work/ssh" -O exit -- "$host" 2>/dev/null || true
  [ -z "$unfinished" ] || rm -f -- "$unfinished"
  [ -z "$work" ] || rm -rf -- "$work"
  [ -z "$card_begun" ] ||
    printf 'error %s is not complete and will not boot: write it again\n' "$device" >&2
  exit "$status"
}
# Keys are in that folder. Once `install` there has begun, also where the line broke, it needs it, and takes it away itself.
clear_board() {
  on_board -- "$host" sh <<<"[ -e $there/begun ] || rm -rf $there" >/dev/null ||
    printf 'error private keys may be left on %s: remove %s there\n' "$host" "$there" >&2
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
