# shellcheck shell=bash disable=SC2015,SC2154  # sourced by flash.sh; `this && that || refuse …`: refuse never comes back
#
# Certificates that the board obtains itself. With [acme] in sanedge.toml, `sanedge renew` needs the same files on the board as here:
# sanedge.toml, sanedge.acme beside the bundle, and the files that both name.

is_managed() { [ -f "$work/sanedge.acme" ]; }
# acme_value KEY FILE: its values, one a line
acme_value() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$2"; }

plan_managed() {
  if ! is_managed; then
    plan gone /etc/sanedge/sanedge.acme # from an earlier sanedge.toml with [acme]: its renewals would replace this bundle
    return
  fi
  local key value
  for key in state challenges; do
    value=$(acme_value "$key" "$work/sanedge.acme")
    case $key-$value in
      state-/var/lib/sanedge-acme | challenges-/run/sanedge-acme/challenges) ;;
      *) refuse acme-folder "$key = \"$value\"" "$config" "$key" ;;
    esac
  done
  file 0644 root root /etc/sanedge/sanedge.toml <"$config"
  acme_files trust 0644 root
  acme_files key_file 0640 sanedge-acme
  acme_files credentials 0640 sanedge-acme
  local said
  if ! said=$("$sanedge" bundle "$work/root/etc/sanedge/sanedge.toml" -o "$work/board.bundle" 2>&1); then
    printf '%s\n' "$said" >&2
    refuse acme-elsewhere "" "$config"
  fi
  # With the paths on the board.
  said=$(<"$work/board.acme")
  said=${said//"\"$work/root/"/'"/'}
  said=${said//"\"$work/board.bundle\""/'"/etc/sanedge/sanedge.bundle"'}
  printf '%s\n' "$said" | file 0644 root root /etc/sanedge/sanedge.acme
  grep -q '^  "certificates": \[\],$' "$work/show.json" || return 0
  note "no host has a certificate yet: the board obtains them after its first boot"
}

# shellcheck disable=SC2094 # a path here and the same on the board
# acme_files KEY MODE GROUP: a file that [acme] names by this key, and that is beside sanedge.toml or in /etc/sanedge here, goes into /etc/sanedge
acme_files() {
  local beside path
  beside=$(dirname -- "$(acme_value source "$work/sanedge.acme")")
  while read -r path; do
    [ -f "$path" ] || refuse no-file "" "$path" "what \`$1\` in [acme] of $config names"
    case $path in
      *[!A-Za-z0-9/._-]* | */../*) refuse acme-elsewhere "$1 = \"$path\"" "$config" ;;
      "$beside"/*)
        folders "${path#"$beside/"}"
        file "$2" root "$3" "/etc/sanedge/${path#"$beside/"}" <"$path"
        ;;
      /etc/sanedge/*) file "$2" root "$3" "$path" <"$path" ;;
      *) note "$path has to be on the board as well: [acme] in $config names it" ;;
    esac
  done < <(acme_value "$1" "$work/sanedge.acme" | sort -u)
}

# folders PATH: creates the folders above it, below /etc/sanedge
folders() {
  local folder
  folder=$(dirname -- "$1")
  [ "$folder" != . ] || return 0
  folders "$folder"
  dir 0755 root root "/etc/sanedge/$folder"
}

# Whether the card contains a secret: a certificate's private key, or a key for the CA or the DNS provider.
has_secrets() { ! is_managed || ! grep -q '^  "certificates": \[\],$' "$work/show.json" || grep -q '^file 0640 root sanedge-acme' "$work/plan"; }
