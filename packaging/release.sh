#!/usr/bin/env bash
# Everything that a release has, for amd64, arm64 and armhf:
#
#   packaging/release.sh [VERSION] [-o FOLDER] [--programs FOLDER]
#
# Writes into FOLDER (target/release-files unless given), which must be empty or not there:
#
#   sanedge-VERSION-linux-ARCH.tar.gz    the static program, units, documents, man pages, completions, and what an image is built from
#   sanedge_VERSION-1_ARCH.deb           the package
#   sanedge-VERSION-image-ARCH.tar       the container image, for `podman load` and `docker load`
#   sanedge-VERSION-manual.tar.gz        man pages and completions alone
#   sanedge-VERSION.cdx.json             what the program is made of (CycloneDX)
#   apt/, sanedge-VERSION-apt.tar.gz     an apt repository of the packages, not signed
#   SHA256SUMS                           of all files above
#
# VERSION (also with a `v` before it, as a tag has it) must be the one of Cargo.toml. Programs are built by zig unless they are in the folder
# that --programs names, as FOLDER/ARCH; then only the architectures that are there are packed, and man pages are taken from FOLDER/assets.
# Two runs of one commit give the same files: every time in them is SOURCE_DATE_EPOCH, by default that of the commit. Nothing is signed, so
# that this holds: sign SHA256SUMS and apt/dists/stable/Release afterwards (docs/install.md).
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2; }
complain() { printf 'packaging/release.sh: %s\n' "$*" >&2; exit 1; }

builds=${CARGO_TARGET_DIR:-$PWD/target}
asked='' programs='' folder=$builds/release-files
while [ $# -gt 0 ]; do
  case $1 in
    -o) [ $# -ge 2 ] || usage; folder=$2; shift ;;
    --programs) [ $# -ge 2 ] || usage; programs=$2; shift ;;
    -*) usage ;;
    *) [ -z "$asked" ] || usage; asked=${1#v} ;;
  esac
  shift
done
for path in builds folder programs; do # also after a change of folder
  case ${!path} in '' | /*) ;; *) printf -v "$path" '%s/%s' "$PWD" "${!path}" ;; esac
done
export CARGO_TARGET_DIR=$builds

# --- before anything is built ----------------------------------------------------------------------------------------------------------
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
of_edge=$(sed -n 's/^sanedge-edge = .*version = "\([^"]*\)".*$/\1/p' Cargo.toml)
[ -n "$version" ] || complain 'expected a version in [workspace.package] of Cargo.toml, found none'
[ -z "$asked" ] || [ "$asked" = "$version" ] ||
  complain "expected version $version, which Cargo.toml has, found $asked: set version in [workspace.package] and that of sanedge-edge, type" \
    "'cargo update --workspace', commit, and tag that"
[ "$of_edge" = "$version" ] || complain "Cargo.toml has version $version, and wants sanedge-edge $of_edge: set both to the same"
grep -qxF "  image: sanedge:$version" packaging/compose.yaml || complain "packaging/compose.yaml has another version than $version: set that of its image"

arches=()
for arch in amd64 arm64 armhf; do
  if [ -z "$programs" ] || [ -f "$programs/$arch" ]; then arches+=("$arch"); fi
done
[ "${#arches[@]}" -gt 0 ] || complain "expected programs named amd64, arm64 or armhf in $programs, found none"
board_of() { case $1 in arm64) echo generic-aarch64 ;; armhf) echo rpi-zero ;; esac; }
triple_of() { case $1 in amd64) echo x86_64-unknown-linux-musl ;; arm64) echo aarch64-unknown-linux-musl ;; armhf) echo arm-unknown-linux-musleabihf ;; esac; }

missing=() wanted=()
needs() { # TOOL PACKAGE
  command -v "$1" >/dev/null || { missing+=("$1"); wanted+=("$2"); }
}
tools() {
  needs cc gcc
  needs git git
  needs python3 python3
  needs apt-ftparchive apt-utils
  needs dpkg-deb dpkg
  needs gzip gzip
  needs tar tar
  needs readelf binutils
  if [ -z "$programs" ]; then
    needs nm binutils
    needs aarch64-linux-gnu-strip binutils-aarch64-linux-gnu
    needs aarch64-linux-gnu-objdump binutils-aarch64-linux-gnu
    needs arm-linux-gnueabihf-strip binutils-arm-linux-gnueabihf
    command -v cargo-zigbuild >/dev/null || needs python3 python3-venv
  fi
  local packages=''
  [ "${#wanted[@]}" -eq 0 ] || packages=$(printf '%s\n' "${wanted[@]}" | sort -u | tr '\n' ' ')
  [ -z "$packages" ] || printf 'packaging/release.sh: there is no %s: apt-get install %s\n' "$(printf '%s, ' "${missing[@]}" | sed 's/, $//')" "$packages" >&2
  command -v cargo >/dev/null || complain 'there is no cargo: https://rustup.rs, or apt-get install cargo-web'
  command -v cargo-deb >/dev/null || complain "there is no cargo-deb: cargo install cargo-deb --locked"
  [ -z "$packages" ] || exit 1
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || complain 'expected Python 3.11 or later, found an older one'
}
tools
# The standard library for each target, and zig.
# shellcheck disable=SC2034,SC2154 # what common.sh reads and sets
standard_library() (
  # shellcheck source=/dev/null
  . cross/common.sh
  base=$builds/cross target=$(triple_of "$1")
  zig_compiler
)
if [ -z "$programs" ]; then for arch in "${arches[@]}"; do standard_library "$arch"; done; fi
cargo metadata --locked --format-version 1 --no-deps >/dev/null || complain "Cargo.lock is not that of Cargo.toml: type 'cargo update --workspace'"

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || complain 'this is no git checkout: set SOURCE_DATE_EPOCH to the time of the release'
fi
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then complain "$folder is not empty: remove it, or name another folder with -o"; fi
mkdir -p "$folder"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# --- what is packed ----------------------------------------------------------------------------------------------------------------------
# Sorted, of root, with one time, and modes that no umask has changed.
pack() { # ARCHIVE MEMBER, in $stage
  tar -C "$stage" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf - "$2" |
    gzip -9n >"$folder/$1"
}

assets=$stage/sanedge-$version-manual
if [ -n "$programs" ] && [ -d "$programs/assets" ]; then
  cp -r "$programs/assets" "$assets"
else
  cargo run --quiet --locked --example assets -- "$assets" >/dev/null
fi
pack "sanedge-$version-manual.tar.gz" "${assets##*/}"

deb() { # ARCH
  local program=$programs/$1
  if [ -z "$programs" ] && [ "$1" != amd64 ]; then
    local board; board=$(board_of "$1")
    cross/build.sh --zig "$board"
    program=$builds/boards/$board/sanedge
  elif [ -z "$programs" ]; then
    program=''
  fi
  packaging/deb.sh "$1" ${program:+"$program"} --assets "$assets" -o "$folder"
}

tarball() { # ARCH
  local name=sanedge-$version-linux-$1
  local top=$stage/$name
  mkdir -p "$top/packaging" "$top/empty"
  # The program of the package: one build is in all of them.
  dpkg-deb --fsys-tarfile "$folder/sanedge_$version-1_$1.deb" | tar -xO ./usr/bin/sanedge >"$top/sanedge"
  chmod 755 "$top/sanedge"
  cp LICENSE-APACHE LICENSE-MIT README.md SECURITY.md CHANGELOG.md "$top/"
  cp -r docs systemd hooks "$assets/man" "$assets/completions" "$top/"
  cp packaging/sanedge.toml packaging/Containerfile packaging/compose.yaml packaging/compose-app.mjs "$top/packaging/"
  cp -r packaging/compose "$top/packaging/"
  install -m 0755 flash/ports.sh "$top/packaging/who-has-port"
  pack "$name.tar.gz" "$name"
  packaging/image "$1" "$top" "sanedge:$version" "$folder/sanedge-$version-image-$1.tar"
}

repository() {
  local apt=$folder/apt arch
  mkdir -p "$apt/pool/main/s/sanedge"
  cp "$folder"/*.deb "$apt/pool/main/s/sanedge/"
  for arch in "${arches[@]}"; do
    mkdir -p "$apt/dists/stable/main/binary-$arch"
    (cd "$apt" && apt-ftparchive --arch "$arch" packages pool >"dists/stable/main/binary-$arch/Packages")
    gzip -9nk "$apt/dists/stable/main/binary-$arch/Packages"
  done
  # apt-ftparchive says when it ran.
  (cd "$apt" && apt-ftparchive -o APT::FTPArchive::Release::Origin=sanedge -o APT::FTPArchive::Release::Label=sanedge \
    -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
    -o APT::FTPArchive::Release::Components=main -o "APT::FTPArchive::Release::Architectures=${arches[*]}" release dists/stable |
    sed "s/^Date: .*/Date: $(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S UTC')/" >"$stage/Release")
  mv "$stage/Release" "$apt/dists/stable/Release"
  cp -r "$apt" "$stage/sanedge-$version-apt"
  pack "sanedge-$version-apt.tar.gz" "sanedge-$version-apt"
}

for arch in "${arches[@]}"; do deb "$arch"; done
for arch in "${arches[@]}"; do tarball "$arch"; done
triples=()
for arch in "${arches[@]}"; do triples+=("$(triple_of "$arch")"); done
packaging/sbom "${triples[@]}" >"$folder/sanedge-$version.cdx.json"
repository
find "$folder" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
(cd "$folder" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >"$stage/SHA256SUMS" && mv "$stage/SHA256SUMS" .)
printf '%s\n' "$folder, of ${arches[*]}:"
cat "$folder/SHA256SUMS"
