#!/usr/bin/env bats
# scripts/launch_full_training.sh on a local instance, and over a real sshd; the training is a stand-in.
load helper
load sshd
load launching

setup() {
  make_laptop
}

teardown() {
  [[ -z ${HOLDER:-} ]] || kill "$HOLDER" 2>/dev/null || true
  stop_sshd "$LAPTOP/instances/0"
  delete_machine
}

launch() {
  run ./scripts/launch_full_training.sh "$@" </dev/null
}

state_there() {
  ./scripts/tnr ssh 0 'cd ~/socrates-training && venv/bin/python scripts/supervise.py state' </dev/null
}

@test "wrong arguments and configs end with 2 before anything happens" {
  export HF_TOKEN=hf_made-up
  for arguments in "--nonsense" "0 1" "../x" "0;x" "--config" "--watch x" "--watch -1" "--watch 10000" "--watch 1.5"; do
    # shellcheck disable=SC2086 # several arguments
    launch $arguments
    assert_status 2
    assert_output_has "--help"
  done
  mkdir elsewhere && cp config_full_dataset.json elsewhere/
  for arguments in "--config absent.json" "--deepspeed absent.json" "--config elsewhere/config_full_dataset.json"; do
    # shellcheck disable=SC2086
    launch $arguments
    assert_status 2
    assert_output_has "launch_full_training.sh: error: "
  done
  # What the monitor would pass over must not be trained for two days.
  for folder in '"/tmp/x"' '"models"' '"models/a b"' '"models/.."' '"models/a/b"' '"models/.a"'; do
    change config_full_dataset.json output_dir "$folder"
    launch 0
    assert_status 2
    assert_output_has "must be models/NAME"
  done
  [[ -z $(ls -A "$THERE") ]]
}

@test "a model of the hub needs a token, and its value is never printed" {
  change config_full_dataset.json model_name '"Qwen/Qwen2.5-14B-Instruct"'
  launch 0
  assert_status 2
  assert_output_has "HF_TOKEN is not set"
  HF_TOKEN="your_hf_token" launch 0
  assert_status 2
  assert_output_has "placeholder"
  HF_TOKEN="hf_a b" launch 0
  assert_status 2
  assert_output_has "white space"
  [[ $output != *"hf_a b"* && -z $(ls -A "$THERE") ]]
  change config_full_dataset.json model_name '"~/a model"'
  launch 0
  [[ $output != *HF_TOKEN* ]]
}

# bats test_tags=slow
@test "an instance that is not there, and one that is not set up" {
  launch 7
  assert_status 2
  assert_output_has "instance 7"
  launch 0
  assert_status 2
  assert_output_has "no environment yet: ./run_remote_setup.sh 0 --config config_full_dataset.json"
  set_machine_up
  rm "$THERE/data/socsci210_full/train.jsonl"
  launch 0
  assert_status 2
  assert_output_has "[FAIL] data: data/socsci210_full/train.jsonl is not there"
  assert_output_has "is not ready"
  [[ ! -e $THERE/.run ]]
}

@test "--require-phases starts nothing without a GO and a PASS" {
  launch 0 --require-phases
  assert_status 1
  assert_output_has "no decision on record"
  assert_output_has "not started: --require-phases"
  [[ -z $(ls -A "$THERE") ]]
}

@test "one that dies at its start is reported with its last lines and 1" {
  set_machine_up
  touch "$THERE/die"
  HF_TOKEN="your_hf_token" launch 0 # no token is needed for a folder, so this one is not sent
  assert_status 1
  assert_output_has "CUDA error: out of luck"
  assert_output_has "the training does not run: why stands above; its whole log: tnr ssh 0 'cat ~/socrates-training/training.log'"
  [[ $output != *"runs on its own"* ]]
  [[ $(<"$THERE/token-sha256") == "$(printf '' | sha256sum | cut -c 1-64)" ]]
}

# bats test_tags=slow
@test "it starts, says what comes next, and is not disturbed by a second start or a setup" {
  set_machine_up
  HF_TOKEN=hf_$(head -c 20 /dev/urandom | sha256sum | cut -c 1-30)
  export HF_TOKEN
  run bash -xv ./scripts/launch_full_training.sh 0 </dev/null
  assert_status 0
  [[ $output != *"$HF_TOKEN"* ]]
  assert_output_has "Phase 1 (is the model learning?): no decision on record"
  assert_output_has "Training runs: step 1 of 9 is done"
  assert_output_has "./scripts/monitor_checkpoints.sh 0 300"
  assert_output_has "tnr ssh 0 'ls ~/socrates-training/models/socrates-qwen-full-dataset/'"
  assert_output_has "./scripts/launch_full_training.sh 0 --resume)"
  [[ $(<"$THERE/token-sha256") == "$(printf %s "$HF_TOKEN" | sha256sum | cut -c 1-64)" ]]
  run grep -rl --exclude-dir=venv "$HF_TOKEN" "$BATS_TEST_TMPDIR"
  assert_status 1

  rm scripts && cp -r "$ROOT/scripts" scripts && echo "# newer" >>scripts/gate.py
  launch 0
  assert_status 2
  assert_output_has "a training is running on instance 0 ($(head -n 1 "$THERE/.run/lock"), which holds .run/lock);"
  run ./run_remote_setup.sh 0 </dev/null
  assert_status 2
  assert_output_has "a training is running on instance 0"
  run grep "# newer" "$THERE/scripts/gate.py"
  assert_status 1
  state_there

  ./scripts/tnr ssh 0 'cd ~/socrates-training && venv/bin/python scripts/supervise.py stop' </dev/null
  for option in --resume --resume-weights-only; do
    launch 0 "$option"
    assert_status 2
    assert_output_has "nothing to resume from"
  done
}

# bats test_tags=slow
@test "a training started by hand is not disturbed, and the lock of one that is gone is no hindrance" {
  set_machine_up
  mkdir -p "$THERE/models/socrates-qwen-500step-validation"
  lock=$THERE/models/socrates-qwen-500step-validation/.training.lock
  printf 'process 4711 on \e[31mhere\n' >"$lock"
  (exec 3>&- 9>>"$lock" && flock 9 && exec sleep 300) &
  HOLDER=$!
  until ! flock -n -s "$lock" true; do sleep 0.05; done
  launch 0
  assert_status 2
  assert_output_has "a training is running on instance 0 (process 4711 on [31mhere, which holds models/socrates-qwen-500step-validation/.training.lock)"
  [[ $output != *$'\e'* && ! -e $THERE/.run && ! -e $THERE/scripts ]]
  kill "$HOLDER"
  wait "$HOLDER" || true
  HOLDER=''
  cp config_full_dataset.json config_small.json # another config: its own log, and the way on names it
  launch 0 --config config_small.json --deepspeed deepspeed_config.json
  assert_status 0
  assert_output_has "training_config_small.log"
  assert_output_has "./scripts/launch_full_training.sh 0 --resume --config config_small.json --deepspeed deepspeed_config.json)"
  [[ -f $THERE/config_small.json && -f $THERE/training_config_small.log ]]
}

# bats test_tags=slow
@test "a lost connection is called that, wherever it happens, and what was started runs on" {
  set_machine_up
  add_ssh_instance
  touch "$THERE/slow"
  for step in "test -x" preflight.py; do
    # shellcheck disable=SC2016 # by the machine
    printf '[[ $SSH_ORIGINAL_COMMAND != *%q* ]] || { kill -9 "$PPID"; exit 1; }\n' "$step" >instances/0/environment
    launch 1
    assert_status 2
    assert_output_has "the connection to instance 1 was lost; run the same command again"
    [[ $output != *"no environment"* && $output != *"not ready"* && ! -e $THERE/.run ]]
  done
  cat >instances/0/environment <<'LOSE'
if [[ $SSH_ORIGINAL_COMMAND == *"supervise.py start"* ]]; then
  (until [[ -e ~/socrates-training/models/socrates-qwen-full-dataset/.progress.json ]]; do sleep 0.05; done; kill -9 "$PPID") >/dev/null 2>&1 &
fi
LOSE
  launch 1
  assert_status 2
  assert_output_has "the connection was lost; whether it runs: ./scripts/status.sh 1"
  run state_there
  assert_status 0
  assert_output_has "running"
}

# bats test_tags=slow
@test "Ctrl+C while it watches ends the watching only" {
  set_machine_up
  touch "$THERE/slow"
  run python3 - <<'INTERRUPT'
import os, signal, subprocess, sys, time
from pathlib import Path
command = ["./scripts/launch_full_training.sh", "0"]
signal.signal(signal.SIGINT, signal.default_int_handler) # tests in the background would ignore it, and all below
launch = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
progress = Path("instances/0/home/socrates-training/models/socrates-qwen-full-dataset/.progress.json")
while launch.poll() is None and not progress.exists():
    time.sleep(0.05)
os.killpg(launch.pid, signal.SIGINT)
sys.exit(launch.wait())
INTERRUPT
  assert_status 130
  assert_output_has "no longer watching; whether it runs: ./scripts/status.sh 0"
  [[ $output != *"not started"* ]]
  run state_there
  assert_status 0
}
