#!/usr/bin/env bash
# Summary: Rehearse the guide on this machine: baseline, training, checkpoint, decision. No GPU, no account, no network beyond pip.
# Usage: ./scripts/rehearse.sh [--data DIR] [--folder DIR] [--fresh]
#
# Makes its own virtual environment (venv/), a tiny Qwen2 model and sample answers, and runs the real scripts on
# two CPU processes. All of it lies in rehearsal/ and is used again by the next run, which says so.
#   --data DIR    real answers: a folder with train.jsonl and val.jsonl (only read)
#   --folder DIR  where all of it is kept (rehearsal/sample, or rehearsal/NAME-HASH for real answers)
#   --fresh       forget what earlier rehearsals of this data made
# Exit status: 0 it ran to a decision (GO or NO-GO), 2 it did not.
set -euo pipefail
trap 'status=$?; ((status != 1)) || exit 2' EXIT # 1 would mean that the answer is no
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

data=''
folder=''
fresh=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --data) need_value "$@"; data=$2; shift 2 ;;
    --folder) need_value "$@"; folder=$2; shift 2 ;;
    --fresh) fresh=1; shift ;;
    *) die_usage "unknown argument: $1" ;;
  esac
done
if [[ -n $data ]]; then
  [[ -f $data/train.jsonl && -f $data/val.jsonl ]] || die "$data: must hold train.jsonl and val.jsonl"
  data=$(cd "$data" && pwd)
  : "${folder:=$SOCRATES_ROOT/rehearsal/$(basename "$data")-$(cat "$data/train.jsonl" "$data/val.jsonl" | sha256sum | cut -c1-8)}"
fi
: "${folder:=$SOCRATES_ROOT/rehearsal/sample}"
mkdir -p "$folder" || die "$folder: cannot make this folder"
folder=$(cd "$folder" && pwd)
exec 9>>"$folder/.lock" || die "$folder: cannot write there"
flock -n 9 || die "another rehearsal runs in $folder"
if [[ ! -f $folder/.rehearsal ]]; then
  [[ -z $(find "$folder" -mindepth 1 ! -name .lock -print -quit) ]] ||
    die "$folder: holds something that no rehearsal made; choose an empty folder"
  : >"$folder/.rehearsal"
fi
[[ -z $fresh ]] || rm -rf "$folder"/{data,models,evaluation_results,logs}

# One thread a process: two ranks on two cores; with more, small models get slower.
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu CUDA_VISIBLE_DEVICES='' HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
stages=() seconds=() results=()

# run_stage NAME RESULT COMMAND...: says what runs, keeps its output in a log, remembers how long it took.
run_stage() {
  local name=$1 result=$2 started=$SECONDS log status=0
  shift 2
  log=$folder/logs/$(printf '%02d' $((${#stages[@]} + 1)))-${name// /-}.log
  mkdir -p "$folder/logs"
  printf '[%d/%d] %s ...\n' $((${#stages[@]} + 1)) "$STAGES" "$name"
  "$@" >"$log" 2>&1 9>&- || status=$?
  if ((status > ALLOWED)); then
    tail -n 30 "$log" >&2
    die "stage \"$name\" failed (status $status); its whole output: $log"
  fi
  remember "$name" "$((SECONDS - started)) s" "$result"
  LAST_LOG=$log LAST_STATUS=$status
}

reuse_stage() {
  printf '[%d/%d] %s: reusing %s\n' $((${#stages[@]} + 1)) "$STAGES" "$1" "$2"
  remember "$1" reused "$2"
}

remember() {
  stages+=("$1") seconds+=("$2") results+=("$3")
}

# A port that nothing listens on: a rehearsal beside a training, or beside another rehearsal, is no conflict.
free_port() {
  "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

STAGES=6 ALLOWED=0
started=$SECONDS
ensure_environment requirements_full_training.txt
remember "environment" "$((SECONDS - started)) s" venv/
printf '[1/%d] environment ready: %s\n' "$STAGES" "$SOCRATES_ROOT/venv"
export VIRTUAL_ENV=$SOCRATES_ROOT/venv PATH=$SOCRATES_ROOT/venv/bin:$PATH
cd "$folder"

config=config_500step_validation.json
checkpoint=models/socrates-qwen-500step-validation/checkpoint-40
baseline=evaluation_results/baseline/metrics.json

run_stage "data and base model" "data/socsci210_full, models/tiny-qwen2-base" \
  "$PYTHON" "$SOCRATES_ROOT/scripts/make_rehearsal.py" ${data:+--data "$data"} .
sed 's/^/      /' "$LAST_LOG" | grep -E '^ +(made|reused|using) '
run_stage "dry run" "nothing is wrong" \
  "$PYTHON" "$SOCRATES_ROOT/scripts/train_full_dataset.py" --config "$config" --deepspeed deepspeed_config.json --dry-run
if [[ -f $baseline ]]; then
  reuse_stage "baseline evaluation" "$baseline"
else
  run_stage "baseline evaluation" "$baseline" "$SOCRATES_ROOT/scripts/evaluate_baseline.sh"
fi
if "$PYTHON" "$SOCRATES_ROOT/scripts/make_rehearsal.py" --is-complete "$checkpoint"; then
  reuse_stage "training on 2 processes" "$checkpoint"
else
  run_stage "training on 2 processes" "$checkpoint" \
    "$PYTHON" -m deepspeed.launcher.runner --num_gpus=2 --master_port="$(free_port)" "$SOCRATES_ROOT/scripts/train_full_dataset.py" --config "$config" --deepspeed deepspeed_config.json
fi
grep -h "^{'loss'" "$folder"/logs/*training*.log | sed -n '1p;$p' | sed 's/^/      /' || true
ALLOWED=1
run_stage "checkpoint and decision" "evaluation_results/socrates-qwen-500step-validation/checkpoint-40" \
  "$SOCRATES_ROOT/scripts/evaluate_checkpoint.sh" "$checkpoint" "$baseline"
sed -n '/^Wasserstein Distance:/,$p' "$LAST_LOG"

echo
printf '%-26s %-8s %s\n' "Stage" "Time" "Result (in ${folder#"$SOCRATES_ROOT/"})"
for i in "${!stages[@]}"; do printf '%-26s %-8s %s\n' "${stages[i]}" "${seconds[i]}" "${results[i]}"; done
printf '\nRehearsal complete in %d s: %s\n' "$SECONDS" "$([[ $LAST_STATUS == 0 ]] && echo GO || echo NO-GO)"
