#!/usr/bin/env bash
# Summary: Measure, on a machine with one GPU, what was never measured on one; in under eight minutes.
# Usage: benchmarks/on_gpu.sh [--device cuda|cpu] [--shape 14b|tiny|smallest] [--output FOLDER] [--seconds N]
#
# An evaluation of 1,000 rows beside other ways, a training step with each kind of attention that the machine has, and
# the peak memory of both, beside what is estimated before a run. The model has the shape of Qwen2.5-14B and random
# weights, which are made on the GPU: no hub, no data. A GPU of 48 GB or more, better 80.
#   --device cpu   tries the script where there is no GPU: fewer rows; the shape is then tiny, if not named
#   --output       gets answers_SHAPE_DEVICE.md and training_SHAPE_DEVICE.md (benchmarks/results)
#   --seconds      begin no way of training but the first that may not end in so many, all together (450)
# Exit status: 0 measured, 1 ways that compute the same gave other numbers, 2 cannot.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib/common.sh"

device=cuda shape='' output=$SOCRATES_ROOT/benchmarks/results limit=450
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --device) need_value "$@"; device=$2; shift 2 ;;
    --shape) need_value "$@"; shape=$2; shift 2 ;;
    --output) need_value "$@"; output=$2; shift 2 ;;
    --seconds) need_value "$@"; limit=$2; shift 2 ;;
    *) die_unknown "$1" ;;
  esac
done
[[ $device == cuda || $device == cpu ]] || die_usage "--device is cuda or cpu"
[[ $limit =~ ^[1-9][0-9]*$ ]] || die_usage "--seconds is a whole number"
if [[ $device == cuda ]]; then
  shape=${shape:-14b} rows=1000 rows_a_step=32 steps=2
else
  shape=${shape:-tiny} rows=32 rows_a_step=8 steps=1
fi
find_environment
mkdir -p -- "$output"
SECONDS=0
worst=0
measure() {
  local program=$1 status=0
  shift
  note "$program $*"
  "$PYTHON" "$SOCRATES_ROOT/benchmarks/bench_$program.py" --device "$device" --shape "$shape" --repeats 1 "$@" \
    --output "$output/${program}_${shape}_$device.md" || status=$?
  ((status <= worst)) || worst=$status
}

measure answers --rows "$rows" --sample 8 --only 'option by option' '6 tokens'
measure training --rows-a-step "$rows_a_step" --steps "$steps" --only attention strongest --seconds $((limit - SECONDS))
note "$SECONDS s; the tables are in $output"
exit "$worst"
