# shellcheck shell=bash
# For the bats tests: an empty folder and HOME a test, and a Python that only records how it was called.

# shellcheck disable=SC2034 # by the tests
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

setup() {
  export HOME=$BATS_TEST_TMPDIR/home VIRTUAL_ENV=$BATS_TEST_TMPDIR/fake
  mkdir -p "$HOME" "$VIRTUAL_ENV/bin" "$BATS_TEST_TMPDIR/a place"
  cd "$BATS_TEST_TMPDIR/a place" || return 1 # paths with spaces must work
  CALLS=$BATS_TEST_TMPDIR/calls
  export CALLS
  : >"$CALLS"
  # Writes its arguments, one a line, and leaves with $STATUS_<script>, for example STATUS_gate=1: as our programs do, or
  # with DIES=1 as a Python that dies before. The gate records what it decides, or RECORDED.
  cat >"$VIRTUAL_ENV/bin/python" <<'FAKE'
#!/usr/bin/env bash
[[ $1 != -c ]] || exit 0
name=$(basename "$1" .py)
printf '%s\n' "<$name>" "${@:2}" >>"$CALLS"
status=STATUS_$name
status=${!status:-0}
if [[ $name == gate && $status -lt 2 && -z ${DIES:-} ]]; then
  decisions=(GO NO-GO)
  mkdir -p "$(dirname "$5")"
  printf '{\n  "decision": "%s",\n  "n": 1\n}\n' "${RECORDED:-${decisions[status]}}" >"$5"
fi
[[ -z ${SOCRATES_ANSWER:-} || -n ${DIES:-} || $status -gt 1 ]] || exit $((status + 100))
exit "$status"
FAKE
  chmod +x "$VIRTUAL_ENV/bin/python"
}

# The arguments that one script was called with, one a line.
arguments_of() {
  awk -v name="<$1>" '$0 == name { on = 1; next } /^<.*>$/ { on = 0 } on' "$CALLS"
}

# Fails with both texts unless $output holds the text.
assert_output_has() {
  (($# == 1)) || { echo "assert_output_has takes one text"; return 1; }
  # shellcheck disable=SC2154 # output and status are set by bats' run
  [[ $output == *"$1"* ]] || { printf 'expected: %s\nin output: %s\n' "$1" "$output"; return 1; }
}

assert_status() {
  # shellcheck disable=SC2154
  [[ $status == "$1" ]] || { printf 'expected status %s, got %s\noutput: %s\n' "$1" "$status" "$output"; return 1; }
}
