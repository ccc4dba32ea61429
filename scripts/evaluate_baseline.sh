#!/usr/bin/env bash
# Summary: Evaluate the untrained model: the baseline that phase 1 is decided against.
# Usage: ./scripts/evaluate_baseline.sh [--config FILE] [--output DIR] [--max-examples N] [--processes N] [--overwrite]
#
# It is scripts/evaluate.py, whose other options it takes too; model, data and number of examples come from the config.
# Can be run on a laptop or on one GPU.
#   --config FILE       run config (config_500step_validation.json)
#   --output DIR        results folder (evaluation_results/baseline)
#   --max-examples N    people asked at most, some of each of many cells; 0: all (the config's)
#   --processes N       that run the model (one a GPU; without a GPU one)
#   --overwrite         ask again where the results folder holds results already
# Broken off, by whatever, the same command goes on where it was.
# Exit status: 0 done, 2 cannot.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh" || exit 2 # 1 would mean that the answer is no
for argument in "$@"; do [[ $argument != -h && $argument != --help ]] || { usage; exit 0; }; done
find_environment
echo "Baseline Model Evaluation" || exit 2
exec "$PYTHON" "$SOCRATES_ROOT/scripts/evaluate.py" --config config_500step_validation.json --output evaluation_results/baseline --label baseline "$@"
