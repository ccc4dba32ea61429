#!/usr/bin/env bats
load helper

make_inputs() {
  CHECKPOINT="models/my run/checkpoint-500"
  mkdir -p "$CHECKPOINT" evaluation_results/baseline
  touch "$CHECKPOINT"/adapter_{config.json,model.safetensors} evaluation_results/baseline/metrics.json
  BASELINE=evaluation_results/baseline/metrics.json
}

# By `run`; a variable before it reaches the script, too.
evaluate_checkpoint() { run "$ROOT/scripts/evaluate_checkpoint.sh" "$@"; }

@test "the checkpoint is evaluated, then compared, in the guide's words; GO can be made to need significance" {
  make_inputs
  evaluate_checkpoint "$CHECKPOINT/" "$BASELINE" --require-significant
  assert_status 0
  [[ ${lines[0]} == "========================================" && ${lines[2]} == "${lines[0]}" ]]
  [[ ${lines[1]} == "Checkpoint Evaluation & GO/NO-GO Decision" ]]
  results="evaluation_results/my run/checkpoint-500"
  [[ $(arguments_of evaluate) == $'--model\n'"$CHECKPOINT"$'\n--output\n'"$results"$'\n--label\ncheckpoint\n--compare-with\n'"$BASELINE" ]]
  [[ $(arguments_of gate) == "$BASELINE"$'\n'"$results/metrics.json"$'\n--output\n'"$results/decision.json"$'\n--require-significant' ]]
  [[ $(arguments_of report) == evaluation_results/baseline$'\n'"$results" ]]
}

@test "a page that cannot be drawn changes no decision, and an earlier one does not outlive a failure" {
  make_inputs
  results="evaluation_results/my run/checkpoint-500"
  mkdir -p "$results"
  for answer in 0 1; do
    echo '<meta name="generator" content="scripts/report.py">' >"$results/report.html"
    STATUS_gate=$answer STATUS_report=2 evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
    assert_status "$answer"
    assert_output_has "no report.html (status 2); the decision above stands"
    [[ ! -e "$results/report.html" ]]
  done
  echo 'of another program' >"$results/report.html"
  evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
  [[ $(<"$results/report.html") == 'of another program' ]]
}

@test "the gate's answer is the exit status; killed, it gives none, and an evaluation that fails is never a NO-GO" {
  make_inputs
  for answer in 0 1 2; do
    STATUS_gate=$answer evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
    assert_status "$answer"
  done
  STATUS_gate=137 evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
  assert_status 2
  assert_output_has "no decision"
  RECORDED=GO STATUS_gate=1 evaluate_checkpoint "$CHECKPOINT" "$BASELINE" # the decision is the record's
  assert_status 2
  : >"$CALLS"
  for answer in 1 2 137; do
    STATUS_evaluate=$answer evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
    assert_status 2
    assert_output_has "no decision"
  done
  [[ -z $(arguments_of gate) ]]
}

@test "our own output failing, or an incomplete upload, is never a NO-GO" {
  make_inputs
  run bash -c '"$1" "$2" "$3" >/dev/full' _ "$ROOT/scripts/evaluate_checkpoint.sh" "$CHECKPOINT" "$BASELINE"
  assert_status 2
  mkdir -p copy/scripts
  cp "$ROOT/scripts/evaluate_checkpoint.sh" copy/scripts/
  run copy/scripts/evaluate_checkpoint.sh "$CHECKPOINT" "$BASELINE"
  assert_status 2
}

@test "an earlier decision outlives a wrong option and no new evaluation, and the baseline is never written over" {
  make_inputs
  results="evaluation_results/my run/checkpoint-500"
  mkdir -p "$results"
  echo '{"decision": "GO"}' >"$results/decision.json"
  echo '<meta name="generator" content="scripts/report.py">' >"$results/report.html"
  STATUS_evaluate=2 evaluate_checkpoint "$CHECKPOINT" "$BASELINE" --config nope.json
  assert_status 2
  for answer in 0 1; do # a Python that dies before it begins
    DIES=1 STATUS_evaluate=$answer evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
    assert_status 2
  done
  [[ -e "$results/decision.json" && -e "$results/report.html" ]]
  STATUS_gate=2 evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
  assert_status 2
  [[ ! -e "$results/decision.json" ]]
  evaluate_checkpoint "$CHECKPOINT" "$BASELINE" --output "$(dirname "$BASELINE")"
  assert_status 2
  assert_output_has "would overwrite the baseline"
  [[ -f $BASELINE ]]
}

@test "wrong arguments end with 2 before anything happens" {
  make_inputs
  for arguments in '' "'$CHECKPOINT'" "'$CHECKPOINT' $BASELINE extra" "--nonsense '$CHECKPOINT' $BASELINE"; do
    eval "evaluate_checkpoint $arguments"
    assert_status 2
  done
  evaluate_checkpoint absent "$BASELINE"
  assert_status 2
  assert_output_has "absent: no such checkpoint folder"
  evaluate_checkpoint "$CHECKPOINT" absent.json
  assert_status 2
  assert_output_has "run ./scripts/evaluate_baseline.sh first"
  rm "$CHECKPOINT/adapter_model.safetensors"
  evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
  assert_status 2
  assert_output_has "holds no adapter"
  [[ ! -s $CALLS ]]
  touch "$CHECKPOINT/adapter_model.bin" # evaluate.py says how to convert it
  STATUS_evaluate=2 evaluate_checkpoint "$CHECKPOINT" "$BASELINE"
  [[ -n $(arguments_of evaluate) ]]
}
