#!/usr/bin/env bats
load helper

SAMPLE=$ROOT/../shared/data/socsci210_sample

# The decision that was printed follows from the two metrics.json that were written.
assert_decision_follows() {
  "$ROOT/venv/bin/python" - "$1" "$output" <<'CHECK'
import json, sys
from fractions import Fraction
from pathlib import Path
folder, printed = Path(sys.argv[1]), sys.argv[2]
checkpoint = folder / "evaluation_results/socrates-qwen-500step-validation/checkpoint-40"
before, after = (
    Fraction(repr(json.loads((path / "metrics.json").read_text())["wasserstein_distance"]))
    for path in (folder / "evaluation_results/baseline", checkpoint)
)
go = (1 - after / before) * 100 >= 5
assert ("✅ GO - Improvement" in printed) == go, printed
assert ("❌ NO-GO - Improvement" in printed) == (not go), printed
assert json.loads((checkpoint / "decision.json").read_text())["decision"] == ("GO" if go else "NO-GO")
CHECK
}

@test "wrong arguments end with 2 before anything happens" {
  for arguments in "--nonsense" "extra" "--data" "--folder" "--until"; do
    run "$ROOT/scripts/rehearse.sh" "$arguments"
    assert_status 2
  done
  run "$ROOT/scripts/rehearse.sh" --data absent
  assert_status 2
  assert_output_has "absent: must hold train.jsonl and val.jsonl"
}

@test "a folder that no rehearsal made is left alone" {
  mkdir precious
  echo thesis >precious/thesis.txt
  run "$ROOT/scripts/rehearse.sh" --folder precious
  assert_status 2
  assert_output_has "holds something that no rehearsal made"
  [[ $(cat precious/thesis.txt) == thesis ]]
}

@test "answers that lie in the folder, which is emptied, are left alone" {
  mkdir -p mine/data
  touch mine/.rehearsal mine/data/{train,val}.jsonl
  run "$ROOT/scripts/rehearse.sh" --folder mine --data mine/data
  assert_status 2
  assert_output_has "choose another --folder"
  [[ -f mine/data/train.jsonl ]]
}

# bats test_tags=slow
@test "a rehearsal goes through the three phases" {
  run "$ROOT/scripts/rehearse.sh" --folder "$BATS_TEST_TMPDIR/re hearsal"
  assert_status 0
  assert_decision_follows "$BATS_TEST_TMPDIR/re hearsal"
  assert_output_has "✓ checkpoint-50 downloaded successfully"
  [[ $(grep -c '^ *- \[x\]' <<<"$output") == 7 ]]
  assert_output_has "NOT DECIDED: 2 criteria not measured"
  assert_output_has "✓ Training complete: all 3 checkpoints are here, verified"
  assert_output_has "COMPLETE"
  run "$ROOT/scripts/verify_checkpoint.py" "$BATS_TEST_TMPDIR/re hearsal"/models/socrates-qwen-{500step-validation,test-run,full-dataset}
  assert_status 0
  [[ ! -e "$BATS_TEST_TMPDIR/re hearsal/instances/0" ]] # rented machines are given back
}

# bats test_tags=slow
@test "a rehearsal on real answers runs to a decision and writes nothing beside them" {
  [[ -d $SAMPLE ]] || skip "no real answers at $SAMPLE"
  mkdir answers
  for part in train val; do awk 'length < 700' "$SAMPLE/$part.jsonl" >"answers/$part.jsonl"; done # the short ones: sooner done
  before=$(ls -la answers)
  run "$ROOT/scripts/rehearse.sh" --folder "$BATS_TEST_TMPDIR/real" --data answers --until 1
  assert_status 0
  assert_decision_follows "$BATS_TEST_TMPDIR/real"
  [[ $(ls -la answers) == "$before" ]]
}

# bats test_tags=slow
@test "a stage that fails says which, shows its last lines, and ends with 2" {
  mkdir -p bad
  printf '{"study_id": "s"}\n' | tee bad/train.jsonl >bad/val.jsonl
  run "$ROOT/scripts/rehearse.sh" --folder "$BATS_TEST_TMPDIR/bad" --data bad
  assert_status 2
  assert_output_has 'stage "data and base model" failed'
  assert_output_has 'train.jsonl, line 1: no "response"'
}
