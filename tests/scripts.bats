#!/usr/bin/env bats
# What holds for every script that a person may type.
load helper

SCRIPTS=(run_remote_setup.sh launch_test_run.sh scripts/launch_full_training.sh scripts/monitor_checkpoints.sh
  scripts/download_checkpoint.sh scripts/evaluate_baseline.sh scripts/evaluate_checkpoint.sh scripts/rehearse.sh
  scripts/status.sh scripts/test.sh scripts/tnr scripts/verify_test_run.sh tests/faults/run.sh)

@test "each bash script that may be typed is in the list above" {
  cd "$ROOT"
  for script in ./*.sh scripts/*.sh scripts/tnr; do
    [[ " ${SCRIPTS[*]} " == *" ${script#./} "* ]] || { echo "$script is not in the list"; return 1; }
  done
}

@test "-h and --help print what the header says, and nothing else happens" {
  for script in "${SCRIPTS[@]}"; do
    for flag in -h --help; do
      run "$ROOT/$script" "$flag"
      assert_status 0
      [[ $output == "Summary: "* ]]
      assert_output_has "Usage: "
      assert_output_has "${script##*/}"
      assert_output_has "Exit status: "
      [[ $output != *"set -euo"* ]]
    done
  done
  [[ ! -s $CALLS && -z $(ls -A) ]]
}

@test "a wrong option ends with 2, says which, and nothing else happens" {
  for script in "${SCRIPTS[@]}"; do
    [[ $script != */test.sh && $script != */faults/run.sh ]] || continue # hand options to another program
    run "$ROOT/$script" --no-such-option
    assert_status 2
    assert_output_has "--no-such-option"
    [[ $output != *Traceback* ]]
  done
  [[ ! -s $CALLS && -z $(ls -A) ]]
}

@test "each Python entry point answers --help and refuses a wrong option with 2" {
  for script in "$ROOT"/scripts/[a-z]*.py; do
    run "$ROOT/venv/bin/python" "$script" --help
    assert_status 0
    assert_output_has "Exit status"
    run "$ROOT/venv/bin/python" "$script" --no-such-option
    assert_status 2
    [[ $output != *Traceback* ]]
  done
}

@test "each script can be started as it is named in the guide" {
  cd "$ROOT"
  for script in "${SCRIPTS[@]}" scripts/*.py; do
    [[ $script == */_bootstrap.py || -x $script ]] || { echo "$script is not executable"; return 1; }
    if [[ $script == *.py ]]; then continue; fi
    [[ $(head -n 1 "$script") == '#!/usr/bin/env bash' ]]
    grep -q '^set -euo pipefail$' "$script"
  done
}
