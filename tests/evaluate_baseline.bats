#!/usr/bin/env bats
load helper

@test "-h prints the usage" {
  assert_prints_usage evaluate_baseline.sh
}

@test "the guide's bare command: model, data and sizes come from the config" {
  touch config_500step_validation.json
  run "$ROOT/scripts/evaluate_baseline.sh"
  assert_status 0
  [[ ${lines[0]} == "Baseline Model Evaluation" ]]
  [[ $(arguments_of evaluate) == $'--config\nconfig_500step_validation.json\n--output\nevaluation_results/baseline\n--label\nbaseline' ]]
}

@test "options reach the evaluation, spaces and all" {
  touch "my config.json"
  run "$ROOT/scripts/evaluate_baseline.sh" --config "my config.json" --output "my results" --max-examples 7
  assert_status 0
  [[ $(arguments_of evaluate) == $'--config\nmy config.json\n--output\nmy results\n--label\nbaseline\n--max-examples\n7' ]]
}

@test "wrong arguments end with 2 before anything happens" {
  touch config_500step_validation.json
  for arguments in "--nonsense" "extra" "--config" "--output" "--max-examples"; do
    run "$ROOT/scripts/evaluate_baseline.sh" "$arguments"
    assert_status 2
    assert_output_has "--help"
  done
  run "$ROOT/scripts/evaluate_baseline.sh" --config absent.json
  assert_status 2
  assert_output_has "absent.json: no such config"
  [[ ! -s $CALLS ]]
}

@test "the evaluation's status is the script's" {
  touch config_500step_validation.json
  STATUS_evaluate=2 run "$ROOT/scripts/evaluate_baseline.sh"
  assert_status 2
}

@test "without an environment it says how to make one" {
  touch config_500step_validation.json
  rm "$VIRTUAL_ENV/bin/python"
  mkdir -p copy/scripts
  cp -r "$ROOT/scripts/lib" "$ROOT/scripts/evaluate_baseline.sh" copy/scripts/
  printf '#!/bin/sh\nexit 1\n' >"$VIRTUAL_ENV/bin/python3"
  chmod +x "$VIRTUAL_ENV/bin/python3"
  PATH=$VIRTUAL_ENV/bin:$PATH run copy/scripts/evaluate_baseline.sh
  assert_status 2
  assert_output_has "pip install -r requirements_full_training.txt"
}
