#!/usr/bin/env bats
# A laptop, a machine behind a real sshd, a real (tiny) training, and all scripts of the remote side together.
load helper
load sshd

setup_laptop() {
  export VIRTUAL_ENV=$ROOT/venv PATH=$ROOT/venv/bin:$PATH
  LAPTOP="$BATS_TEST_TMPDIR/lap top"
  mkdir -p "$LAPTOP"
  for part in scripts socrates venv requirements_full_training.txt run_remote_setup.sh launch_test_run.sh; do
    ln -s "$ROOT/$part" "$LAPTOP/$part"
  done
  cd "$LAPTOP" || return 1
  OMP_NUM_THREADS=1 PYTHONPATH=$ROOT python -c 'if True:
    from socrates.files import read_json, write_json
    from socrates.rehearsal.rehearsal import main
    main(".", base_steps=20)
    config = read_json("config_test_run.json", "config")
    config["training"]["global_batch_size"] = 4
    write_json("config_test_run.json", config)'
}

# A new machine: instance 0 is its folder, instance 1 the same folder behind sshd.
new_machine() {
  SOCRATES_BACKEND=local ./scripts/tnr create --name rehearsal --gpu A100:2 --disk 200 --region us-east
  MACHINE=$LAPTOP/instances/0
  start_sshd "$MACHINE"
  python - <<'ADD'
import json
from pathlib import Path
path = Path("instances.json")
entries = json.loads(path.read_text())
path.write_text(json.dumps({**entries, "1": json.loads(Path("instances/0/instance.json").read_text())}))
ADD
  mkdir -p "$MACHINE/home/socrates-training"
  ln -s "$ROOT/venv" "$MACHINE/home/socrates-training/venv" # or the test would install all packages again
  printf '%s\n' DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 >"$MACHINE/home/socrates-training/machine.env"
  ./scripts/tnr scp 1 models/tiny-qwen2-base ~/socrates-training/models/
}

teardown() {
  [[ -z ${MONITOR:-} ]] || kill "$MONITOR" 2>/dev/null || true
  [[ -z ${KILLER:-} ]] || kill "$KILLER" 2>/dev/null || true
  [[ -z ${WATCHER:-} ]] || kill "$WATCHER" 2>/dev/null || true
  if [[ -d ${MACHINE:-} ]]; then
    cd "$LAPTOP" && SOCRATES_BACKEND=local ./scripts/tnr delete 0 --yes --force </dev/null || true
    stop_sshd
  fi
}

wait_for_end() { # PROCESS SECONDS
  local waited
  for ((waited = 0; waited < $2; waited++)); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 1
  done
  return 1
}

# bats test_tags=slow
@test "setup, launch, monitor, download, verify, status, delete, and the same run on a new machine" {
  setup_laptop
  new_machine
  run ./run_remote_setup.sh 1 --config config_test_run.json
  assert_status 0
  assert_output_has "Instance 1 is ready"

  ./scripts/monitor_checkpoints.sh 1 3 --until-complete </dev/null >monitor.log 2>&1 3>&- &
  MONITOR=$!
  # Made up here; the watcher must not have them in its own arguments.
  HF_TOKEN=hf_$(head -c 30 /dev/urandom | base64 | tr -dc 'A-Za-z0-9') TNR_API_TOKEN=tnr_$(head -c 30 /dev/urandom | base64 | tr -dc 'A-Za-z0-9')
  export HF_TOKEN TNR_API_TOKEN
  SECRETS="$HF_TOKEN $TNR_API_TOKEN" python "$ROOT/tests/scripts/watch_for_secrets.py" "$BATS_TEST_TMPDIR/seen" 3>&- &
  WATCHER=$!
  run ./scripts/launch_full_training.sh 1 --config config_test_run.json
  assert_status 0
  assert_output_has "Training runs"
  assert_output_has "tnr ssh 1 'tail -f ~/socrates-training/training_test.log'"

  # A second start is refused, and so is deleting what is not here yet.
  run ./scripts/launch_full_training.sh 1 --config config_test_run.json
  assert_status 2
  assert_output_has "a training is running on instance 1 (process "
  run env SOCRATES_BACKEND=local ./scripts/tnr delete 0 --yes
  assert_status 1

  wait_for_end "$MONITOR" 900
  wait "$MONITOR" # its status, too: all is here
  MONITOR=''
  run ./scripts/verify_checkpoint.py models/socrates-qwen-test-run
  assert_status 0
  # Its last checkpoint is here a moment before the training ends.
  for ((waited = 0; waited < 300; waited++)); do
    run ./scripts/status.sh 1
    [[ $output != *COMPLETE* ]] || break
    sleep 1
  done
  assert_status 0
  assert_output_has "COMPLETE"
  assert_output_has "here: 5 of 5"

  # HF_TOKEN reached the training, and nobody could see it: no process list, no log, no file.
  kill "$WATCHER"
  wait_for_end "$WATCHER" 120
  WATCHER=''
  grep -q '^looked [0-9][0-9]' "$BATS_TEST_TMPDIR/seen"
  run grep -a '^seen' "$BATS_TEST_TMPDIR/seen"
  assert_status 1
  for secret in "$HF_TOKEN" "$TNR_API_TOKEN"; do
    run grep -ral --exclude-dir=venv -e "$secret" "$LAPTOP" "$HOME" "$BATS_TEST_TMPDIR"
    assert_status 1
  done

  run env SOCRATES_BACKEND=local ./scripts/tnr delete 0 --yes
  assert_status 0
  [[ ! -e $MACHINE ]]
  stop_sshd

  # The machine is gone, and so are the last two checkpoints: the run goes on from the newest that is here.
  rm -r models/socrates-qwen-test-run/checkpoint-{40,50}
  # There it is killed in the middle of its next save, and the supervisor starts it again.
  new_machine
  ./run_remote_setup.sh 1 --config config_test_run.json
  PYTHONPATH=$ROOT:$ROOT/tests python "$ROOT/tests/scripts/kill_in_save.py" "$MACHINE/home/socrates-training" models/socrates-qwen-test-run/checkpoint-40 3>&- &
  KILLER=$!
  run ./scripts/launch_full_training.sh 1 --config config_test_run.json --resume
  assert_status 0
  assert_output_has "goes on from checkpoint-30, sent from here"
  run timeout 900 ./scripts/monitor_checkpoints.sh 1 3 --until-complete
  assert_status 0
  wait "$KILLER"
  KILLER=''
  run ./scripts/verify_checkpoint.py models/socrates-qwen-test-run
  assert_status 0
  [[ -d models/socrates-qwen-test-run/checkpoint-50 && ! -e models/socrates-qwen-test-run/set-aside ]]
  there=$MACHINE/home/socrates-training
  compgen -G "$there/models/socrates-qwen-test-run/set-aside/checkpoint-40-*" # the half one was not resumed from
  grep -q "Passed over models/socrates-qwen-test-run/checkpoint-40: no manifest.json" "$there/training_test.log"
  grep -q '"restarts": 1' "$there/.run/state.json"
}
