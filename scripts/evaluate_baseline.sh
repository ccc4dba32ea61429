#!/usr/bin/env bash
# Summary: Evaluate the untrained model: the baseline that phase 1 is decided against.
# Usage: ./scripts/evaluate_baseline.sh [--config FILE] [--output DIR] [--max-examples N] [--processes N] [--overwrite]
#
# Model, data and number of examples come from the config. Can be run on a laptop or on one GPU.
#   --config FILE       run config (config_500step_validation.json)
#   --output DIR        results folder (evaluation_results/baseline)
#   --max-examples N    people asked at most, some of each of many cells; 0: all (the config's)
#   --processes N       that ask the model (one a GPU; without a GPU one)
#   --overwrite         ask again where the results folder holds results already
# Broken off, by whatever, the same command goes on where it was.
# Exit status: 0 done, 2 cannot.
set -euo pipefail
trap 'status=$?; ((status != 1)) || exit 2' EXIT # 1 would mean that the answer is no
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

config=config_500step_validation.json
output=evaluation_results/baseline
options=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --config) need_value "$@"; config=$2; shift 2 ;;
    --output) need_value "$@"; output=$2; shift 2 ;;
    --max-examples | --processes) need_value "$@"; options+=("$1" "$2"); shift 2 ;;
    --overwrite) options+=("$1"); shift ;;
    *) die_unknown "$1" ;;
  esac
done
[[ -f $config ]] || die "$config: no such config; run from the project's folder, or name one with --config"
find_environment

echo "Baseline Model Evaluation"
exec "$PYTHON" "$SOCRATES_ROOT/scripts/evaluate.py" --config "$config" --output "$output" --label baseline "${options[@]}"
