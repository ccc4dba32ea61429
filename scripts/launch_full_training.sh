#!/usr/bin/env bash
# Summary: Start the full training on a rented machine and see it through its first minute.
# Usage: ./scripts/launch_full_training.sh [ID] [--resume | --resume-weights-only] [--config FILE] [--deepspeed FILE]
#        [--watch SECONDS] [--require-phases]
#
# Sends the current code, checks the machine, starts the training there so that it outlives the connection, and
# prints what to run next. A training that runs there already is never disturbed.
#   ID                 the instance, as in `tnr status` (0)
#   --resume           go on from the newest checkpoint, on the machine or, where it has none as new, from here
#   --resume-weights-only
#                      the same, where only the weights of it are whole (a light download): the log says what is lost
#   --config FILE      run config (config_full_dataset.json)
#   --deepspeed FILE   DeepSpeed config (deepspeed_config.json; deepspeed_config_test.json for config_test_run.json)
#   --watch SECONDS    how long to look on for (60); Ctrl+C ends only that
#   --require-phases   start only with phase 1 (GO) and phase 2 (PASS) on record
# HF_TOKEN is read from the environment and goes to the machine over standard input.
# Exit status: 0 the training runs, 1 it died or stopped at once, or phases are required and not passed, 2 it could not be
#   started, 130 interrupted.
set -euo pipefail
trap 'status=$?; [[ -n ${answered:-} || $status != 1 ]] || exit 2' EXIT # 1 only where it is the answer
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$SOCRATES_ROOT/scripts/lib/machine.sh"
on_interrupt="interrupted: nothing was started"
trap 'note "$on_interrupt"; exit 130' INT

instance=''
resume=''
weights_only=''
config=config_full_dataset.json
deepspeed=''
watch=60
require_phases=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --resume) resume=1; shift ;;
    --resume-weights-only) resume=1 weights_only=1; shift ;;
    --config) need_value "$@"; config=$2; shift 2 ;;
    --deepspeed) need_value "$@"; deepspeed=$2; shift 2 ;;
    --watch) need_value "$@"; watch=$2; shift 2 ;;
    --require-phases) require_phases=1; shift ;;
    -*) die_unknown "$1" ;;
    *) [[ -z $instance ]] || die_usage "one instance at a time"; instance=$1; shift ;;
  esac
done
instance=${instance:-0}
check_instance_id "$instance"
[[ $watch =~ ^[0-9]{1,4}$ ]] || die_usage "--watch needs 0 to 9999 seconds, not $watch"
cd "$SOCRATES_ROOT"
again=() # what the same run needs when it is started again
[[ $config == config_full_dataset.json ]] || again+=(--config "$config")
[[ -z $deepspeed ]] || again+=(--deepspeed "$deepspeed")
case ${config##*/} in
  config_test_run.json) : "${deepspeed:=deepspeed_config_test.json}"; log=training_test.log ;;
  config_500step_validation.json) : "${deepspeed:=deepspeed_config.json}"; log=training_500step.log ;;
  config_full_dataset.json) : "${deepspeed:=deepspeed_config.json}"; log=training.log ;;
  *) : "${deepspeed:=deepspeed_config.json}"; log=training_$(basename "$config" .json).log ;;
esac
for file in "$config" "$deepspeed"; do
  [[ -f $file ]] || die "$file: no such file"
  [[ $file != */* ]] || die "$file: must stand in the project's folder, as it will on the machine"
done
find_python
settings=$("$PYTHON" scripts/lib/run.py config "$config" "$deepspeed") || exit 2
{ read -r run && read -r model; } <<<"$settings"
check_token "$model"

echo "================================"
echo "Full Training Launch"
echo "================================"
echo "Instance ID: $instance"
echo "Config: $config (run $run, model $model)"
phases=0
answer "$PYTHON" scripts/lib/run.py phases || phases=$?
if [[ -n $require_phases && $phases != 0 ]]; then
  ((phases == 1)) || die "cannot tell whether the phases were passed: nothing was started"
  note "not started: --require-phases asks for a GO and a PASS on record"
  answered=1
  exit 1
fi

reach "$instance"
refuse_while_training "$instance"
echo "Sending the current code..."
send_code "$instance" "$config" "$deepspeed"
echo "Checking the machine..."
step_on_machine "$instance" "test -x venv/bin/python" </dev/null ||
  die "instance $instance has no environment yet: ./run_remote_setup.sh $instance --config $config"
files="--config $(quote "$config") --deepspeed $(quote "$deepspeed")"
step_on_machine "$instance" "IFS= read -r HF_TOKEN && export HF_TOKEN && venv/bin/python scripts/preflight.py $files" < <(printf '%s\n' "${HF_TOKEN:-}") ||
  die "instance $instance is not ready (see the lines marked FAIL above); ./run_remote_setup.sh $instance --config $config sends data and installs packages"
if [[ -n $resume ]]; then
  "$PYTHON" scripts/lib/run.py remote.push "$instance" "$run" "$weights_only" || die "nothing was started"
fi

echo "Starting..."
on_interrupt="no longer watching; whether it runs: ./scripts/status.sh $instance"
status=0
printf '%s\n' "${HF_TOKEN:-}" | answer on_machine "$instance" \
  "SOCRATES_ANSWER=1 venv/bin/python scripts/supervise.py start $files --log $(quote "$log") --watch $watch ${HF_TOKEN:+--token-on-stdin} ${weights_only:+--resume-weights-only}" || status=$?
case $status in
  0) ;;
  1) answered=1; note "the training does not run: why stands above; its whole log: tnr ssh $instance 'cat ~/$REMOTE_ROOT/$log'"; exit 1 ;;
  "$NOT_REACHED") die "the connection was lost; whether it runs: ./scripts/status.sh $instance" ;;
  *) die "the training was not started (status $status)" ;;
esac
cat <<END

Training runs on its own now: this terminal, this machine and the connection may go.

# Download each checkpoint as it is saved (separate terminal)
./scripts/monitor_checkpoints.sh $instance 300

# How far it is, what it costs
./scripts/status.sh $instance

# Watch training log
tnr ssh $instance 'tail -f ~/$REMOTE_ROOT/$log'

# Check GPU utilization
tnr ssh $instance 'nvidia-smi'

# Check which checkpoints exist on remote
tnr ssh $instance 'ls ~/$REMOTE_ROOT/models/$run/'

# Stop it (it can go on later: ./scripts/launch_full_training.sh $instance --resume${again[*]:+ ${again[*]}})
tnr ssh $instance 'cd ~/$REMOTE_ROOT && venv/bin/python scripts/supervise.py stop'

Bare tnr lines need: source scripts/activate
END
