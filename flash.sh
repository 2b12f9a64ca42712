#!/usr/bin/env bash
# shellcheck disable=SC2015,SC2034  # `this && that || refuse …` is meant so: refuse never comes back; the parts of flash/ use the variables
set -euo pipefail
export LC_ALL=C
umask 077 # whatever is made here may hold private keys
PATH=$PATH:/usr/sbin:/sbin

usage() {
  cat <<'TEXT'
Installs the edge on a board: the program, its units (enabled) and a checked bundle.

  ./flash.sh --board rpi4 --config sanedge.toml --image IN.img.xz --out card.img
  ./flash.sh --board rpi4 --config sanedge.toml --image IN.img.xz --device /dev/sdX
  ./flash.sh --board rpi4 --config sanedge.toml --host pi@raspberrypi.local

  --board NAME         a profile of boards/
  --config FILE        the sanedge.toml to compile; it must name the same board
  --image FILE         an image like Raspberry Pi OS (FAT boot partition, ext4 root), plain or compressed (xz, gzip, zstd, bzip2, zip)
  --out FILE           write the finished image here (mode 0600: it contains private keys)
  --device DEVICE      write it to this card and read it back; erases the card
  --force-device       write to a device that does not report itself as removable
  --host [USER@]HOST   install or upgrade a running board over ssh (ssh://user@host:port works too); rolls back if
                       the edge does not become ready there
  --reboot             reboot the board after the installation, and check the edge again           (with --host)
  --hostname NAME      the board's name                                                            (with --image)
  --ssh-key FILE.pub   this key may log in as the image's first user; enables sshd                 (with --image)
  --wifi-country CC    two letters, such as DE; Wi-Fi stays off until its country is set           (with --image)
  --binary FILE        the program for the board   (default: made by cross/build.sh)
  --sanedge FILE       the sanedge of this machine that compiles the bundle
                       (default: the one on PATH if it has this version, else cargo builds it)
  --dry-run            check everything, print every step, change nothing

Making an image needs neither root nor loop devices nor mounts; --device needs the right to write to the device.
Exit code: 0 done, 1 refused or failed, 2 wrong usage.
TEXT
}

here=$(dirname "$(realpath "$0")")
refusals=$here/flash/refusals
# shellcheck source=/dev/null
for part in refuse cmdline words check programs plan managed image system device host; do . "$here/flash/$part.sh"; done

# --- arguments ------------------------------------------------------------------------------------------------------

board='' config='' image='' out='' device='' force_device='' host='' dry=''
reboot='' hostname='' ssh_key='' wifi_country='' binary='' sanedge=''
while [ $# -gt 0 ]; do
  case $1 in
    --force-device) force_device=1; shift; continue ;;
    --reboot) reboot=1; shift; continue ;;
    --dry-run) dry=would; shift; continue ;;
    -h | --help) usage; exit 0 ;;
    --board | --config | --image | --out | --device | --host | --hostname | --ssh-key | --wifi-country | --binary | --sanedge) ;;
    *) wrong_usage "expected an option, found \`$1\`" ;;
  esac
  [ $# -ge 2 ] && [ -n "$2" ] || wrong_usage "\`$1\` wants a value"
  name=${1#--}
  declare "${name//-/_}=$2"
  shift 2
done
[ -n "$board" ] || wrong_usage "--board is missing: a profile of boards/"
[ -n "$config" ] || wrong_usage "--config is missing: the sanedge.toml to put on the board"
if [ -n "$host" ]; then
  [ -z "$image$out$device$hostname$ssh_key$wifi_country" ] ||
    wrong_usage "--host is for a running board: --image, --out, --device, --hostname, --ssh-key and --wifi-country do not go with it"
else
  [ -z "$reboot" ] || wrong_usage "--reboot needs --host"
  [ -n "$image" ] || wrong_usage "--image or --host is missing: an image, or a running board, to install the edge on"
  [ -n "$out$device" ] || wrong_usage "--out or --device is missing: a file, or a card, to write the image to"
fi

# --- all of it ------------------------------------------------------------------------------------------------------

check_board
check_files
[ -n "$host" ] || image_kind=$(kind_of "$image")
check_tools
check_out
check_device
work=$(mktemp -d -- "${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}/sanedge-flash.XXXXXX")
find_sanedge
compile_bundle
[ -z "$host" ] || check_host_machine
find_binary
if [ -n "$host" ]; then
  install_on_host
else
  make_image
  finish_image
  write_device
fi
if [ -n "$dry" ]; then note "this was a dry run: nothing was changed"; else doing "finished"; fi
