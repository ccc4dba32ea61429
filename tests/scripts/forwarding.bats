#!/usr/bin/env bats
# The scripts whose Python program reads the arguments. What those refuse: test_command_lines.py.
load helper

@test "all arguments reach the program as they are, and its status is the script's" {
  for script in status verify_test_run monitor_checkpoints download_checkpoint; do
    run "$ROOT/scripts/$script.sh" 1 --run "a b"
    assert_status 0
    [[ $(arguments_of "$script") == $'1\n--run\na b' ]]
    for answer in 1 2 137; do
      run env "STATUS_$script=$answer" "$ROOT/scripts/$script.sh"
      assert_status "$answer"
    done
  done
}

@test "an incomplete upload or our own output failing is never an answer" {
  mkdir -p copy/scripts
  for script in status verify_test_run monitor_checkpoints download_checkpoint evaluate_baseline; do
    cp "$ROOT/scripts/$script.sh" copy/scripts/
    run "copy/scripts/$script.sh"
    assert_status 2
  done
  run bash -c '"$1" >/dev/full' _ "$ROOT/scripts/evaluate_baseline.sh"
  assert_status 2
}

@test "the baseline: model, data and sizes come from the guide's config, and options win over it" {
  run "$ROOT/scripts/evaluate_baseline.sh" --config "my config.json" --max-examples 7
  assert_status 0
  [[ ${lines[0]} == "Baseline Model Evaluation" ]]
  [[ $(arguments_of evaluate) == $'--config\nconfig_500step_validation.json\n--output\nevaluation_results/baseline\n--label\nbaseline\n--config\nmy config.json\n--max-examples\n7' ]]
}
