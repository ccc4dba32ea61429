#!/usr/bin/env bash
# Summary: Evaluate a checkpoint and decide GO or NO-GO against a baseline.
# Usage: ./scripts/evaluate_checkpoint.sh CHECKPOINT BASELINE_METRICS [--config FILE] [--output DIR] [--max-examples N]
#            [--processes N] [--overwrite] [--allow-seen] [--require-significant]
#
# The checkpoint is asked about the same rows, in the same words, as the baseline was.
#   CHECKPOINT          folder with an adapter: models/RUN/checkpoint-N
#   BASELINE_METRICS    evaluation_results/baseline/metrics.json
#   --config FILE       run config (the one that the checkpoint records)
#   --output DIR        results folder (evaluation_results/RUN/checkpoint-N)
#   --max-examples N    as for the baseline (the config's)
#   --processes N       that run the model (one a GPU; without a GPU one)
#   --overwrite         ask again where the results folder holds results already
#   --allow-seen        judge it also on rows that it may have been trained on; the decision says so
#   --require-significant  GO only if the improvement's whole 95% interval is at the threshold or above
# Broken off, by whatever, the same command goes on where it was.
# The decision is kept in decision.json in the results folder, and drawn in report.html.
# Exit status: 0 GO, 1 NO-GO, 2 cannot decide.
set -euo pipefail
# Only the gate's own answer may leave with 1: a full disk under our own output, say, is no NO-GO.
decided=''
trap 'status=$?; [[ -n $decided || $status == 0 || $status == 2 ]] || exit 2' EXIT
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

output='' options=() gate_options=() places=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --output) need_value "$@"; output=$2; shift 2 ;;
    --config | --max-examples | --processes) need_value "$@"; options+=("$1" "$2"); shift 2 ;;
    --overwrite | --allow-seen) options+=("$1"); shift ;;
    --require-significant) gate_options+=("$1"); shift ;;
    -*) die_unknown "$1" ;;
    *) places+=("$1"); shift ;;
  esac
done
((${#places[@]} == 2)) || die_usage "needs CHECKPOINT and BASELINE_METRICS, got ${#places[@]} arguments"
checkpoint=${places[0]%/}
baseline=${places[1]}
[[ -d $checkpoint ]] || die "$checkpoint: no such checkpoint folder; download it first"
[[ -f $checkpoint/adapter_config.json && (-f $checkpoint/adapter_model.safetensors || -f $checkpoint/adapter_model.bin) ]] ||
  die "$checkpoint: holds no adapter (adapter_config.json, adapter_model.safetensors): not a checkpoint of this project, or not complete"
[[ -f $baseline ]] || die "$baseline: no such baseline metrics; run ./scripts/evaluate_baseline.sh first"
find_environment
folder=$(realpath "$checkpoint") run=$(realpath "$checkpoint/..")
: "${output:=evaluation_results/${run##*/}/${folder##*/}}"

[[ ! $baseline -ef $output/metrics.json ]] || die "--output $output would overwrite the baseline; choose another folder"

echo "========================================"
echo "Checkpoint Evaluation & GO/NO-GO Decision"
echo "========================================"
# Any failure here is "cannot decide", also a kill: only the gate itself says 0 or 1.
answer "$PYTHON" "$SOCRATES_ROOT/scripts/evaluate.py" --model "$checkpoint" --output "$output" --label checkpoint \
  --compare-with "$baseline" "${options[@]}" || die "the evaluation failed (status $?): no decision"
# Those of an earlier evaluation, which a slip on the command line has not cost.
rm -f -- "$output/decision.json"
! grep -qsF scripts/report.py "$output/report.html" || rm -f -- "$output/report.html"
echo
status=0
answer "$PYTHON" "$SOCRATES_ROOT/scripts/gate.py" "$baseline" "$output/metrics.json" --output "$output/decision.json" "${gate_options[@]}" || status=$?
case $status-$(grep -so '^  "decision": "[A-Z-]*"' "$output/decision.json") in
  '0-  "decision": "GO"' | '1-  "decision": "NO-GO"') decided=1 ;;
  *) die "the gate failed (status $status): no decision" ;;
esac
# The page is for people: whatever happens to it, the decision stands.
{ echo && "$PYTHON" "$SOCRATES_ROOT/scripts/report.py" "$(dirname "$baseline")" "$output"; } ||
  note "no report.html (status $?); the decision above stands" || true
exit "$status"
