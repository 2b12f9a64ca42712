# shellcheck shell=sh disable=SC2154  # $refusals is the table's path, set by the script that uses this
#
# Prints refusals, for flash.sh and for the script that runs on the board, so it is POSIX sh. The texts are in the table `refusals`, whose head
# describes its columns.

# say_refusal CODE FOUND [ARGUMENT…]: prints the table's row with its %1, %2, … replaced by the arguments
say_refusal() {
  CODE=$1 FOUND=${2:-} ONE=${3:-} TWO=${4:-} THREE=${5:-} awk -F'\t' '
    function filled(text,    done, at) {
      while (at = match(text, /%[123]/)) {
        done = done substr(text, 1, at - 1) value[substr(text, at + 1, 1)]
        text = substr(text, at + 2)
      }
      return done text
    }
    function row(name, text) { if (text != "") printf "  %-9s %s\n", name, text }
    BEGIN { value[1] = ENVIRON["ONE"]; value[2] = ENVIRON["TWO"]; value[3] = ENVIRON["THREE"] }
    $1 == ENVIRON["CODE"] {
      printf "error %s [%s]\n", filled($2), $1
      row("expected", filled($3)); row("found", ENVIRON["FOUND"]); row("do", filled($4))
    }' "$refusals" >&2
}
# refuse CODE FOUND [ARGUMENT…]: prints the refusal and exits
refuse() { say_refusal "$@"; exit 1; }
