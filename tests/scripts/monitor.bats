#!/usr/bin/env bats
# monitor_checkpoints.sh and download_checkpoint.sh: the guide's lines. Their arguments: test_command_lines.py.

load helper

real_project() {
  unset VIRTUAL_ENV
  PYTHON=$(type -P python3)
  [[ ! -x $ROOT/venv/bin/python ]] || PYTHON=$ROOT/venv/bin/python
  mkdir -p scripts instance/home/socrates-training/models
  ln -s "$ROOT"/scripts/* scripts/
  rm -f scripts/tnr
  cp "$ROOT/tests/fixtures/folder_tnr.bash" scripts/tnr
  ln -s "$ROOT/socrates" .
}

# save STEP [RUN]: a checkpoint on the instance, as a training leaves it.
save() {
  local folder=instance/home/socrates-training/models/${2:-socrates-qwen-test-run}/checkpoint-$1 name
  mkdir -p "$folder"
  for name in adapter_config.json adapter_model.safetensors optimizer.pt trainer_state.json training_args.bin; do
    head -c 100 /dev/urandom >"$folder/$name"
  done
  "$PYTHON" -c 'import sys; from pathlib import Path; from socrates.checkpoint import write_manifest
write_manifest(Path(sys.argv[1]), 2)' "$folder"
}

mask_times() {
  sed -E 's/\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\]/[TIME]/'
}

@test "the monitor prints the guide's lines, is found by ps, and Ctrl+C tells how to go on" {
  real_project
  save 10
  interruptible ./scripts/monitor_checkpoints.sh 0 60 >out 2>&1 3>&- &
  local monitor=$!
  for _ in {1..5000}; do
    if grep -q successfully out; then break; fi
    sleep 0.05
  done
  [[ $(ps -o args= -p "$monitor") == *monitor_checkpoints.py* ]]
  kill -INT "$monitor"
  status=0
  wait "$monitor" || status=$?
  [[ $status == 130 ]]
  diff <(mask_times <out) - <<'GUIDE'
================================
Checkpoint Monitor
================================
Instance ID: 0
Check interval: 60s
Checkpoints go to: models/RUN/checkpoint-N/
Stop with Ctrl+C; run it again to go on
[TIME] Found new checkpoint: checkpoint-10
[TIME] Downloading checkpoint-10...
[TIME] ✓ checkpoint-10 downloaded successfully

Monitor stopped: 1 checkpoint here, all verified. Run it again to go on.
GUIDE
  [[ -f models/socrates-qwen-test-run/checkpoint-10/adapter_model.safetensors ]]
}

@test "download prints the guide's lines from any folder, in any locale" {
  real_project
  save 30
  mkdir elsewhere
  cd elsewhere
  LC_ALL=C run ../scripts/download_checkpoint.sh 30
  assert_status 0
  [[ $(mask_times <<<"$output") == $'[TIME] Downloading checkpoint-30...\n[TIME] ✓ checkpoint-30 downloaded successfully' ]]
  [[ -d ../models/socrates-qwen-test-run/checkpoint-30 && -z $(ls) ]]
  run ../scripts/download_checkpoint.sh 30
  [[ $output == "✓ checkpoint-30 is here already, intact: models/socrates-qwen-test-run/checkpoint-30" ]]
  run ../scripts/download_checkpoint.sh --from "0:~/socrates-training/models/socrates-qwen-test-run/checkpoint-30" --to "here too/"
  assert_status 0
  [[ -d "here too/checkpoint-30" ]]
}
