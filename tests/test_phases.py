"""What is on record of the phases: the newest decision, and nothing that cannot be read counts as passed."""

import json
import os

import pytest

from socrates.phases import RESULTS, TEST_RUN, VALIDATION_RUN, VERIFICATION, phase_records


def record(root, name, text, age=0):
    path = root / RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1e9 - age, 1e9 - age))


def passed(root):
    return [r.passed for r in phase_records(root)]


def test_a_go_and_a_pass_and_before_them_neither_passed_nor_failed(tmp_path):
    assert passed(tmp_path) == [None, None]
    go = json.dumps({"decision": "GO", "improvement_printed": "7.5%"})
    record(tmp_path, f"{VALIDATION_RUN}/checkpoint-500/decision.json", go)
    record(tmp_path, f"{TEST_RUN}/{VERIFICATION}", '{"verdict": "PASS"}')
    assert passed(tmp_path) == [True, True]
    assert "GO, improvement 7.5%" in phase_records(tmp_path)[0].text


def test_a_go_on_rows_that_the_model_was_trained_on_is_none(tmp_path):
    for seen, expected in (({"baseline": 0, "checkpoint": 0}, True), ({"baseline": 0, "checkpoint": 60}, None)):
        go = json.dumps({"decision": "GO", "improvement_printed": "50.0%", "rows_seen": seen})
        record(tmp_path, f"{VALIDATION_RUN}/checkpoint-500/decision.json", go)
        assert passed(tmp_path)[0] is expected
    assert "--allow-seen" in phase_records(tmp_path)[0].text


def test_the_newest_decision_counts(tmp_path):
    record(tmp_path, f"{VALIDATION_RUN}/checkpoint-500/decision.json", '{"decision": "GO"}', age=100)
    record(tmp_path, f"{VALIDATION_RUN}/checkpoint-250/decision.json", '{"decision": "NO-GO"}')
    assert passed(tmp_path)[0] is False


@pytest.mark.parametrize(
    "text", ["", "{", '{"decision": true}', '{"decision": "go"}', '{"verdict": "NOT DECIDED"}', "[]"]
)
def test_what_cannot_be_read_has_not_passed(tmp_path, text):
    record(tmp_path, f"{VALIDATION_RUN}/checkpoint-500/decision.json", text)
    record(tmp_path, f"{TEST_RUN}/{VERIFICATION}", text)
    assert passed(tmp_path) == [None, None]
