#!/usr/bin/env bash
# Summary: Rehearse the guide on this machine, with a folder as the rented machine. No GPU, no account, no network beyond pip.
# Usage: ./scripts/rehearse.sh [--data DIR] [--folder DIR] [--until PHASE]
#
# Makes its own virtual environment (venv/), a tiny Qwen2 model and sample answers, and goes through the guide's three
# phases with the real scripts: baseline, training, checkpoint, decision; the infrastructure test with the monitor beside
# it; the full run. Trainings take two CPU processes. All of it lies in rehearsal/ until the next run, which starts anew.
#   --data DIR      real answers: a folder with train.jsonl and val.jsonl (only read)
#   --folder DIR    where all of it is kept (rehearsal/sample, or rehearsal/real-sample for real answers)
#   --until PHASE   stop after phase 1, 2 or 3 (3)
# Exit status: 0 it ran to its end (phase 1 to GO or NO-GO), 2 it did not.
set -euo pipefail
trap 'status=$?; stop_monitor; ((status != 1)) || exit 2' EXIT # 1 would mean that the answer is no
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$SOCRATES_ROOT/scripts/lib/tnr_rsync.sh"
monitor=''
stop_monitor() {
  [[ -z $monitor ]] || kill "$monitor" 2>/dev/null || true
  monitor=''
}

data=''
folder=''
until=3
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --data) need_value "$@"; data=$2; shift 2 ;;
    --folder) need_value "$@"; folder=$2; shift 2 ;;
    --until) need_value "$@"; until=$2; shift 2 ;;
    *) die_unknown "$1" ;;
  esac
done
[[ $until == [123] ]] || die_usage "--until takes 1, 2 or 3, not $until"
if [[ -n $data ]]; then
  [[ -f $data/train.jsonl && -f $data/val.jsonl ]] || die "$data: must hold train.jsonl and val.jsonl"
  data=$(cd "$data" && pwd)
fi
: "${folder:=$SOCRATES_ROOT/rehearsal/${data:+real-}sample}"
mkdir -p "$folder" || die "$folder: cannot make this folder"
folder=$(cd "$folder" && pwd)
[[ $data/ != "$folder"/* ]] || die "--data $data: lies in $folder, which every rehearsal empties; choose another --folder"
command -v flock >/dev/null || die "flock (of util-linux) is not installed"
exec 9>>"$folder/.lock" || die "$folder: cannot write there"
status=0
flock -n -E 75 9 || status=$?
((status != 75)) || die "another rehearsal runs in $folder"
((status == 0)) || die "$folder: its disk locks no files; choose a --folder on another disk"
if [[ ! -f $folder/.rehearsal ]]; then
  [[ -z $(find "$folder" -mindepth 1 ! -name .lock -print -quit) ]] ||
    die "$folder: holds something that no rehearsal made; choose an empty folder"
  : >"$folder/.rehearsal"
fi

# One thread a process: two ranks on two cores; with more, small models get slower.
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu CUDA_VISIBLE_DEVICES='' HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export SOCRATES_BACKEND=local # the rented machine is a folder, whatever cloud command line is installed here
home=$SOCRATES_ROOT
stage=0

# run_stage NAME COMMAND...: says what runs and how long it took, and keeps its output in a log.
run_stage() {
  local name=$1 begun=$SECONDS status=0
  shift
  begin_stage "$name ..."
  LAST_LOG=$folder/logs/$(printf '%02d' "$stage")-${name//[ :]/-}.log
  mkdir -p "$folder/logs"
  "$@" >"$LAST_LOG" 2>&1 9>&- || status=$?
  if [[ " 0 ${ALLOWED:-} " != *" $status "* ]]; then
    tail -n 30 "$LAST_LOG" >&2
    die "stage \"$name\" failed (status $status); its whole output: $LAST_LOG"
  fi
  printf '     done in %d s\n' $((SECONDS - begun))
  LAST_STATUS=$status
}

begin_stage() {
  printf '[%2d] %s\n' $((++stage)) "$1"
}

show() { # lines of the last log, indented
  grep -E "$1" "$LAST_LOG" | sed 's/^/        /' || true
}

tnr() {
  ./scripts/tnr "$@" </dev/null
}

# A machine as run_remote_setup.sh leaves it; its environment is this project's, not installed a second time.
ready_instance() { # NAME GPUS CONFIG
  tnr create --name "$1" --gpu "$2" --disk 500 --region us-east || return
  mkdir -p instances/0/home/socrates-training && ln -sfn "$home/venv" instances/0/home/socrates-training/venv || return
  # The rented machine would get the model from the hub.
  tnr scp 0 models/tiny-qwen2-base ~/socrates-training/models/ || return
  ./run_remote_setup.sh 0 --config "$3" </dev/null
}

train_by_hand() { # as in the guide's phase 1: nohup, and a look at the log until it ends
  local pid port
  port=$("$PYTHON" -c 'from socrates.machine.process_tree import free_port; print(free_port())') || return
  pid=$(tnr ssh 0 "cd ~/socrates-training && source venv/bin/activate && \
    { nohup python -m deepspeed.launcher.runner --num_gpus=2 --master_port=$port scripts/train_full_dataset.py \
      --config config_500step_validation.json --deepspeed deepspeed_config.json \
      > training_500step.log 2>&1 </dev/null & echo \$!; }") || return
  tnr ssh 0 "tail -f --pid=$pid /dev/null"
  tnr ssh 0 'cat ~/socrates-training/training_500step.log' && tnr ssh 0 'grep -q "^Training complete" ~/socrates-training/training_500step.log'
}

start_monitor() { # NAME [OPTION...]
  ./scripts/monitor_checkpoints.sh 0 2 "${@:2}" </dev/null >"$folder/logs/monitor-$1.log" 2>&1 9>&- &
  monitor=$!
}

# Waits until the training on the machine has ended; fails when it is not complete.
wait_for_training() {
  local state
  # The supervisor holds its lock for as long as it lives.
  state=$(tnr ssh 0 'cd ~/socrates-training && flock -s .run/lock true && venv/bin/python scripts/supervise.py state') || true
  printf '%s\n' "$state"
  [[ $state == complete* ]]
}

wait_for_monitor() { # started with --until-complete: it ends by itself
  timeout --foreground 120 tail -f --pid="$monitor" /dev/null || { echo "the monitor has not ended 120 s after the training"; return 1; }
  wait "$monitor" || return
  monitor=''
}

delete_instance() {
  tnr delete 0 --yes
}

phase_1() {
  run_stage "1: baseline evaluation" ./scripts/evaluate_baseline.sh
  run_stage "1: instance" ready_instance socrates-500step-validation A100-80GB:4 config_500step_validation.json
  run_stage "1: training on 2 processes" train_by_hand
  show "^{'loss'" | sed -n '1p;$p'
  run_stage "1: download" tnr scp -r "0:~/socrates-training/$checkpoint" "${checkpoint%/*}/"
  run_stage "1: delete the instance" delete_instance
  ALLOWED=1 run_stage "1: checkpoint and decision" ./scripts/evaluate_checkpoint.sh "$checkpoint" evaluation_results/baseline/metrics.json
  DECISION=$([[ $LAST_STATUS == 0 ]] && echo GO || echo NO-GO)
  sed -n '/^Wasserstein Distance:/,$p' "$LAST_LOG"
}

launch_test_run() {
  tnr ssh 0 'cd ~/socrates-training && bash launch_test_run.sh' && wait_for_training
}

finish_test_run() {
  local waited=0
  ./scripts/download_checkpoint.sh 30 </dev/null || return # beside the monitor, as in the guide
  until ./scripts/monitor_checkpoints.sh 0 --missing </dev/null; do
    ((++waited <= 60)) || return
    sleep 1
  done
  ./scripts/verify_checkpoint.py models/socrates-qwen-test-run
}

phase_2() {
  run_stage "2: instance" ready_instance socrates-test-run A100:2 config_test_run.json
  start_monitor phase-2
  run_stage "2: infrastructure test" launch_test_run
  run_stage "2: checkpoints here" finish_test_run
  stop_monitor
  sed -n '/Found new/,$p' "$folder/logs/monitor-phase-2.log" | sed 's/^/        /'
  # What needs a GPU is not measured, and that is no PASS.
  ALLOWED=2 run_stage "2: verification" ./scripts/verify_test_run.sh 0 --config config_test_run.json
  grep -E '^- \[|^(PASS|FAIL|NOT DECIDED)' "$LAST_LOG" | sed 's/^/        /'
  run_stage "2: delete the instance" delete_instance
}

phase_3() {
  run_stage "3: instance" ready_instance socrates-full-training A100-80GB:4 config_full_dataset.json
  start_monitor phase-3 --until-complete
  run_stage "3: launch" ./scripts/launch_full_training.sh 0
  run_stage "3: full run" wait_for_training
  run_stage "3: checkpoints here" wait_for_monitor
  sed -n '/Found new/,$p' "$folder/logs/monitor-phase-3.log" | sed 's/^/        /'
  run_stage "3: status" ./scripts/status.sh 0
  sed 's/^/        /' "$LAST_LOG"
  run_stage "3: delete the instance" delete_instance
}

config=config_500step_validation.json
checkpoint=models/socrates-qwen-500step-validation/checkpoint-40

check_rsync_here # the copies to the machine need it, minutes from now
ensure_environment requirements_full_training.txt
begin_stage "environment ready: $home/venv"
export VIRTUAL_ENV=$home/venv PATH=$home/venv/bin:$PATH
cd "$folder"
# What the project's folder is to the guide; instances/0 becomes the rented machine.
for part in scripts socrates venv requirements_full_training.txt run_remote_setup.sh launch_test_run.sh; do ln -sfn "$home/$part" "$part"; done
# What an earlier rehearsal has left goes.
[[ ! -d instances/0 ]] || tnr delete 0 --yes --force >/dev/null 2>&1 || die "the earlier rehearsal's machine could not be deleted; see ./scripts/tnr status in $folder"
rm -rf instances.json data published models evaluation_results logs

run_stage "data and base model" \
  "$PYTHON" scripts/lib/run.py rehearsal.rehearsal . ${data:+"$data"}
sed 's/^/        /' "$LAST_LOG" | grep -E '^ +(made|using) '
if [[ -z $data ]]; then # what the guide takes for granted: the published answers, split, checked, and tokenized before a GPU is rented
  run_stage "data ready" "$PYTHON" scripts/prepare_data.py --source published --output data/socsci210_full \
    --tokenize --config config_full_dataset.json
  show '^(No |Tokenized)'
fi
run_stage "dry run" \
  "$PYTHON" scripts/train_full_dataset.py --config "$config" --deepspeed deepspeed_config.json --dry-run
phase_1
((until < 2)) || phase_2
((until < 3)) || phase_3

printf '\nRehearsal complete in %d s, in %s: %s\n' "$SECONDS" "${folder#"$home/"}" "$DECISION"
