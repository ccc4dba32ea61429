#!/usr/bin/env bats
load helper

# A project's folder on a training machine, with a Python that only records how it was called.
prepare() {
  mkdir -p "$HOME/socrates-training/scripts"
  cp "$ROOT/launch_test_run.sh" "$HOME/socrates-training/"
  cp -r "$ROOT/scripts/lib" "$HOME/socrates-training/scripts/"
  cd "$HOME/socrates-training" || return 1
  touch config_test_run.json deepspeed_config_test.json
  export HF_TOKEN="hf_a-secret"
}

@test "the guide's line starts the supervisor with the test run's files and says what comes next" {
  prepare
  cd ..
  run bash -c 'cd ~/socrates-training && export HF_TOKEN="hf_a-secret" && bash launch_test_run.sh'
  assert_status 0
  [[ $(arguments_of supervise) == $'start\n--config\nconfig_test_run.json\n--deepspeed\ndeepspeed_config_test.json\n--log\ntraining_test.log' ]]
  assert_output_has "./scripts/monitor_checkpoints.sh 0 60"
  assert_output_has "tnr ssh 0 'tail -f ~/socrates-training/training_test.log'"
  assert_output_has "./scripts/verify_test_run.sh 0"
  [[ $output != *hf_a-secret* ]]
}

@test "wrong arguments end with 2 before anything happens" {
  prepare
  for arguments in "--nonsense" "0" "--watch" "--watch x" "--watch -1"; do
    # shellcheck disable=SC2086
    run bash launch_test_run.sh $arguments
    assert_status 2
    assert_output_has "--help"
  done
  [[ ! -s $CALLS ]]
}

@test "what was not uploaded is named, with the command that uploads it" {
  prepare
  rm deepspeed_config_test.json
  run bash launch_test_run.sh
  assert_status 2
  assert_output_has "tnr scp 0 deepspeed_config_test.json"
  rm -r scripts
  run bash launch_test_run.sh
  assert_status 2
  assert_output_has "tnr scp 0 scripts/"
  [[ ! -s $CALLS ]]
}

@test "without a token it says so and goes on" {
  prepare
  unset HF_TOKEN
  run bash launch_test_run.sh
  assert_status 0
  assert_output_has "HF_TOKEN is not set"

  # The guide's line as it is printed; the hub would refuse the placeholder.
  sed -i "2i [[ \$1 == -c ]] || printf '%s' \"\${HF_TOKEN-unset}\" >\"$BATS_TEST_TMPDIR/token\"" "$VIRTUAL_ENV/bin/python"
  HF_TOKEN=YOUR_HF_TOKEN run bash launch_test_run.sh
  assert_status 0
  assert_output_has "still the guide's placeholder"
  [[ $(<"$BATS_TEST_TMPDIR/token") == unset ]]
}

@test "without an environment it says how to make one" {
  prepare
  printf '#!/bin/sh\nexit 1\n' >"$VIRTUAL_ENV/bin/python3"
  chmod +x "$VIRTUAL_ENV/bin/python3"
  rm "$VIRTUAL_ENV/bin/python"
  PATH=$VIRTUAL_ENV/bin:$PATH run bash launch_test_run.sh
  assert_status 2
  assert_output_has "python3 -m venv venv"
}

@test "the supervisor's answer is the script's: 1 died at start, 2 refused, and then no next steps" {
  prepare
  cd "$BATS_TEST_TMPDIR/a place" # it works in its own folder
  for status_of_start in 1 2; do
    STATUS_supervise=$status_of_start run bash "$HOME/socrates-training/launch_test_run.sh" --watch 5
    assert_status "$status_of_start"
    [[ $output != *monitor_checkpoints* && $(arguments_of supervise | tail -n 2) == $'--watch\n5' ]]
  done
  DIES=1 STATUS_supervise=1 run bash "$HOME/socrates-training/launch_test_run.sh"
  assert_status 2
}

@test "nothing is started on a machine that cannot carry the run" {
  prepare
  STATUS_preflight=1 run bash launch_test_run.sh
  assert_status 2
  assert_output_has "not started: see the lines marked FAIL above"
  [[ $(arguments_of preflight) == $'--config\nconfig_test_run.json\n--deepspeed\ndeepspeed_config_test.json' ]]
  [[ -z $(arguments_of supervise) ]]
}
