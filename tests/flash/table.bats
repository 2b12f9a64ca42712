#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016  # variables of support.bash; words that only look like expansions
# The table of refusals: what the scripts refuse, what docs/flashing.md shows and what the other files of tests have seen agree.

load support
setup() { cd "$repository" || return; }
codes() { grep -v '^#' flash/refusals | cut -f 1; }

@test "each row is whole, and each code is there once" {
  [ "$(grep -vc '^#' flash/refusals)" -gt 80 ]
  ! grep -v '^#' flash/refusals | awk -F'\t' 'NF != 4 || $1 !~ /^[a-z0-9-]+$/ || $2 == ""' | grep . || false
  [ -z "$(codes | sort | uniq -d)" ]
}

@test "the scripts refuse by the codes of the table, by all of them and with enough arguments" {
  local used
  used=$(grep -ohE '(refuse|say_refusal) [a-z0-9]+-[a-z0-9-]+|(refuse|say_refusal) (hostname|bundle)' flash/*.sh | cut -d' ' -f2 | sort -u)
  diff <(codes | sort) <(printf '%s\n' "$used" | grep -v '^only-ask$')
}

@test "the words are filled in: arguments and nothing else" {
  # shellcheck source=/dev/null
  run sh -c 'refusals=flash/refusals; . flash/refuse.sh; refuse device-swap "50% & \\1 %1" "/dev/%2" "\$(id)"'
  [ "$status" -eq 1 ]
  [ "${lines[0]}" = 'error /dev/%2 is in use as swap [device-swap]' ]
  [ "${lines[2]}" = '  found     50% & \1 %1' ]
  [ "${lines[3]}" = '  do        swapoff $(id)' ]
}

# The rows as Markdown, with … where something is filled in.
as_markdown() {
  printf '| code | refused | what to do |\n|---|---|---|\n'
  grep -v '^#' flash/refusals | sed 's/|/\\|/g; s/%[123]/…/g' | awk -F'\t' '{ print "| `" $1 "` | " $2 ($3 == "" ? "" : "; expected: " $3) " | " $4 " |" }'
}
@test "docs/flashing.md shows the table (SANEDGE_WRITE_DOCS=1 writes it there)" {
  as_markdown >"$BATS_TEST_TMPDIR/table"
  if [ -n "${SANEDGE_WRITE_DOCS:-}" ]; then
    sed -i -e '/^| code | refused/,$d' docs/flashing.md
    cat "$BATS_TEST_TMPDIR/table" >>docs/flashing.md
  fi
  sed -n '/^| code | refused/,$p' docs/flashing.md | diff "$BATS_TEST_TMPDIR/table" -
}

@test "every refusal was provoked by the tests before this one" {
  [ "$(sort -u "$BATS_RUN_TMPDIR/files" 2>/dev/null | wc -l)" -ge 6 ] || skip "only with all files: bats tests/flash"
  # There are codes of `sanedge bundle` among those that were seen.
  local never
  never=$(codes | sort | comm -23 - <(sort -u "$BATS_RUN_TMPDIR/codes"))
  [ -z "$never" ] || { echo "never seen: $never"; false; }
}
