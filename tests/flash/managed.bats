#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# A card for a board that obtains its certificates itself: what `sanedge renew` needs there, and no private key.

load support
bats_require_minimum_version 1.5.0
setup_file() { make_all; }
setup() { enter; }
teardown() { free_loops; }

# managed LINES OF [acme]: a sanedge.toml without a certificate
managed() {
  rm -f sanedge.toml
  printf 'board = "rpi4"\n[listen]\nhttps = ["[::]:443"]\nhttp = ["[::]:80"]\n[acme]\nterms = "agreed"\n%s\n' "$1" >sanedge.toml
  printf '[[site]]\nhosts = ["%s"]\nupstream = ["127.0.0.1:3002"]\n' recre.store socket.recre.store >>sanedge.toml
}
private_ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 90 -subj /CN=ca 2>/dev/null; }
acme() { inside card.img /etc/sanedge/sanedge.acme; }

@test "without a certificate the card has no private key, and all that the board needs to get one" {
  managed ''
  mv sanedge.toml 'my edge.toml'
  ln -s 'my edge.toml' sanedge.toml
  flash --image image.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "contains no private key" "the board obtains them after its first boot"
  [[ $output != *"contains private keys"* ]]
  is_clean card.img
  inside card.img /etc/sanedge/sanedge.toml | cmp - sanedge.toml
  [ "$(owner card.img /etc/sanedge/sanedge.toml)" = "0644 0 0 " ]
  [ "$(owner card.img /etc/sanedge/sanedge.acme)" = "0644 0 0 " ]
  # As `sanedge bundle` writes it on the board.
  acme >card.acme
  grep -qx '  "source": "/etc/sanedge/sanedge.toml",' card.acme
  grep -qx '  "bundle": "/etc/sanedge/sanedge.bundle",' card.acme
  grep -qx "  \"source_sha256\": \"$(sha256sum <sanedge.toml | cut -d' ' -f1)\"," card.acme
  run ! grep -e "$PWD" -e tmp card.acme
  grep -q socket.recre.store card.acme
  run ! grep -a -q 'PRIVATE KEY' card.img
}

@test "files that [acme] names come along, keys only for the user that needs them" {
  private_ca
  mkdir dns
  echo c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0 >eab.key
  printf 'program = "/bin/true"\n' >dns/dns.toml
  managed $'directory = "https://ca.test/dir"\ntrust = "ca.pem"\neab = { kid = "k", key_file = "eab.key" }\n[acme.dns]\nprovider = "exec"\ncredentials = "dns/dns.toml"'
  flash --image image.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "contains private keys"
  local number
  number=$(inside card.img /etc/group | sed -n 's/^sanedge-acme:x:\([0-9]*\):$/\1/p')
  [ "$(owner card.img /etc/sanedge/eab.key)" = "0640 0 $number " ]
  [ "$(owner card.img /etc/sanedge/dns/dns.toml)" = "0640 0 $number " ]
  [ "$(owner card.img /etc/sanedge/dns)" = "0755 0 0 " ]
  [ "$(owner card.img /etc/sanedge/ca.pem)" = "0644 0 0 " ]
  inside card.img /etc/sanedge/ca.pem | cmp - ca.pem
  acme >card.acme
  grep -q '"trust": "/etc/sanedge/ca.pem"' card.acme
  grep -q '"key_file": "/etc/sanedge/eab.key"' card.acme
  grep -q '"credentials": "/etc/sanedge/dns/dns.toml"' card.acme
}

@test "a file elsewhere is named, and a file that is missing is refused" {
  private_ca
  mkdir here
  mv ca.pem elsewhere.pem
  managed "trust = \"$PWD/elsewhere.pem\""$'\ndirectory = "https://ca.test/dir"'
  mv sanedge.toml here/
  run "$flash" --board rpi4 --config here/sanedge.toml --sanedge "$(host_sanedge)" --binary program --image image.img --out other.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  says "$PWD/elsewhere.pem has to be on the board as well"
  managed $'directory = "https://ca.test/dir"\ntrust = "elsewhere.pem"\neab = { kid = "k", key_file = "eab.key" }'
  flash --image image.img --out card.img
  refused 1 "[no-file]" "eab.key"
}

@test "what the board would not find is refused" {
  managed 'state = "/srv/acme"'
  flash --image image.img --out card.img
  refused 1 "[acme-folder]" 'state = "/srv/acme"'
  private_ca
  mv ca.pem 'my ca.pem'
  managed $'directory = "https://ca.test/dir"\ntrust = "my ca.pem"'
  flash --image image.img --out card.img
  refused 1 "[acme-elsewhere]" 'my ca.pem'
  mkdir below
  mv 'my ca.pem' ca.pem
  managed $'directory = "https://ca.test/dir"\ntrust = "below/../ca.pem"'
  flash --image image.img --out card.img
  refused 1 "[acme-elsewhere]" 'below/../ca.pem'
  # A certificate of this machine beside managed hosts.
  managed ''
  printf '[[certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n' >>sanedge.toml
  flash --image image.img --out card.img
  refused 1 "[acme-elsewhere]"
}

@test "without [acme] nothing of it is there, and a former one is removed" {
  flash --image image.img --out card.img
  is_not_in card.img /etc/sanedge/sanedge.acme
  is_not_in card.img /etc/sanedge/sanedge.toml
  managed ''
  flash --image image.img --out managed.img
  is_in managed.img /etc/sanedge/sanedge.acme
  rm sanedge.toml
  ln -s "$BATS_FILE_TMPDIR/sanedge.toml" .
  flash --image managed.img --out again.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  is_not_in again.img /etc/sanedge/sanedge.acme
}

@test "an image without accounts gives the files to sanedge-acme at its first boot" {
  cp "$(realpath image.img)" bare.img
  debugfs -w -R 'rm /etc/passwd' "bare.img?offset=$ext4_at" 2>/dev/null
  echo c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0 >eab.key
  managed 'eab = { kid = "k", key_file = "eab.key" }'
  flash --image bare.img --out card.img
  [ "$status" -eq 0 ] || { echo "$output"; false; }
  inside card.img /etc/tmpfiles.d/sanedge-bundle.conf | grep -qx 'z /etc/sanedge/eab.key 0640 root sanedge-acme -'
}
