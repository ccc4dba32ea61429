#!/usr/bin/env bash
# Summary: Launch the infrastructure test (50 steps on two GPUs), on the training machine itself.
# Usage: bash launch_test_run.sh [--watch SECONDS]
#
# To be run where the training runs, in the project's folder:
#   cd ~/socrates-training && export HF_TOKEN="…" && bash launch_test_run.sh
# Uses ./venv, config_test_run.json and deepspeed_config_test.json; the log is training_test.log. It goes on from the
# newest complete checkpoint, and comes back once the training has done its first step, or after a minute; the training
# goes on when the connection ends.
#   --watch SECONDS    how long to watch the beginning (60)
# Environment: CUDA_VISIBLE_DEVICES, HF_TOKEN, DS_ACCELERATOR=cpu to train on CPUs; also from machine.env.
# Exit status: 0 it runs or is complete, 1 it died or stopped at start, 2 it was not started.
set -euo pipefail
trap '[[ -n ${asked:-} || $? != 1 ]] || exit 2' EXIT # 1 would mean that the training died
common=$(dirname "${BASH_SOURCE[0]}")/scripts/lib/common.sh
if [[ ! -f $common ]]; then
  root=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  printf '%s: error: %s/scripts is missing; upload it from the laptop: tnr scp 0 scripts/ ~/socrates-training/scripts/\n' "${0##*/}" "$root" >&2
  exit 2
fi
# shellcheck source=scripts/lib/common.sh
source "$common"
root=$SOCRATES_ROOT

config=config_test_run.json
deepspeed=deepspeed_config_test.json
log=training_test.log
options=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --watch)
      need_value "$@"
      [[ $2 =~ ^[0-9]{1,4}$ ]] || die_usage "--watch wants 0 to 9999 seconds, not $2"
      options+=("$1" "$2")
      shift 2
      ;;
    *) die_unknown "$1" ;;
  esac
done
cd "$root"

for file in "$config" "$deepspeed"; do
  [[ -f $file ]] || die "$root/$file is missing; upload it from the laptop: tnr scp 0 $file ~/socrates-training/"
done
find_environment
PATH=$(dirname "$PYTHON"):$PATH
export PATH

if [[ ${HF_TOKEN:-} == [yY][oO][uU][rR]_* ]]; then # the hub refuses a wrong token even where none is needed
  note "HF_TOKEN is still the guide's placeholder: going on without"
  unset HF_TOKEN
fi
[[ -n ${HF_TOKEN:-} ]] || note "HF_TOKEN is not set: Qwen2.5 can be had without, a model that asks for consent cannot"

"$PYTHON" scripts/preflight.py --config "$config" --deepspeed "$deepspeed" ||
  die "not started: see the lines marked FAIL above"
asked=1
answer "$PYTHON" scripts/supervise.py start --config "$config" --deepspeed "$deepspeed" --log "$log" "${options[@]}"

cat <<NEXT

On the laptop, in the project's folder (0 is this machine's id there):
  ./scripts/monitor_checkpoints.sh 0 60                      # brings the checkpoints, in a terminal of its own
  tnr ssh 0 'tail -f ${root/#"$HOME"/\~}/$log'
  ./scripts/verify_test_run.sh 0                             # when it is done: PASS or FAIL
Here: python scripts/supervise.py state
NEXT
