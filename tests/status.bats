#!/usr/bin/env bats
# status.sh and verify_test_run.sh: their arguments. What they find: remote/test_status.py, remote/test_verify.py.
load helper

SCRIPTS="status verify_test_run"

@test "-h prints the usage" {
  for script in $SCRIPTS; do assert_prints_usage "$script.sh"; done
}

@test "wrong arguments end with 2 before anything happens" {
  for script in $SCRIPTS; do
    for arguments in "--nonsense" "0 1" "../x" "-1" "0;x" "" "--config" "--json=1"; do
      [[ $script:$arguments != "status:" && $script:$arguments != "verify_test_run:" ]] || continue
      # shellcheck disable=SC2086 # several arguments
      run "$ROOT/scripts/$script.sh" $arguments
      assert_status 2
      assert_output_has "error: "
      assert_output_has "--help"
    done
  done
  for arguments in "--watch 0" "--watch 100000" "--watch 5 --json" "--json --watch" "--watch 5 5 5"; do
    # shellcheck disable=SC2086
    run "$ROOT/scripts/status.sh" $arguments
    assert_status 2
  done
  run "$ROOT/scripts/verify_test_run.sh" --config absent.json
  assert_status 2
  assert_output_has "absent.json: no such file"
  [[ ! -s $CALLS ]]
}

@test "instance 0 and the guide's config unless others are named" {
  run "$ROOT/scripts/status.sh"
  assert_status 0
  [[ $(arguments_of status) == $'--instance\n0' ]]
  run "$ROOT/scripts/verify_test_run.sh"
  [[ $(arguments_of verify_test_run) == $'--instance\n0\n--config\nconfig_test_run.json' ]]
}

@test "--watch takes seconds or none, before or after the instance" {
  while IFS='|' read -r arguments expected; do
    : >"$CALLS"
    # shellcheck disable=SC2086
    run "$ROOT/scripts/status.sh" $arguments
    assert_status 0
    [[ $(arguments_of status | tr '\n' ' ') == "--instance $expected " ]] || { echo "$arguments: $(arguments_of status)"; return 1; }
  done <<'CASES'
2 --watch|2 --watch 60
2 --watch 5|2 --watch 5
--watch 5 2|2 --watch 5
--watch gpu-1|gpu-1 --watch 60
--json 2|2 --json
CASES
}

@test "the answer is the exit status, and a kill or a crash is none" {
  for answer in 0 1 2 130; do
    STATUS_status=$answer run "$ROOT/scripts/status.sh"
    assert_status "$answer"
  done
  for answer in 0 1 2; do
    STATUS_verify_test_run=$answer run "$ROOT/scripts/verify_test_run.sh"
    assert_status "$answer"
  done
  for answer in 3 127 137; do
    STATUS_status=$answer run "$ROOT/scripts/status.sh"
    assert_status 2
    STATUS_verify_test_run=$answer run "$ROOT/scripts/verify_test_run.sh"
    assert_status 2
  done
}

@test "an incomplete upload or our own output failing is never an answer" {
  mkdir -p copy/scripts
  cp "$ROOT"/scripts/{status,verify_test_run}.{sh,py} copy/scripts/
  for script in $SCRIPTS; do
    run "copy/scripts/$script.sh"
    assert_status 2
  done
}
