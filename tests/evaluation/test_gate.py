"""The decision: a table over real files through the real script, and the gate's rules one by one."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
import time
from datetime import datetime
from fractions import Fraction
from functools import reduce
from hashlib import sha256

import numpy as np
import pytest
from comparing import json_lines
from hypothesis import given
from hypothesis import strategies as st
from made_results import make_world, write_made_results
from processes import ROOT, run_loaded, run_script

from socrates.errors import SocratesError, run_entry_point
from socrates.evaluation.gate import GO, NO_GO, check_comparable, decision_text, printed_distances
from socrates.evaluation.gate import decide as decide_on
from socrates.evaluation.metrics import METRIC_VERSION
from socrates.files import atomic_write
from socrates.report.html import flattened

SCRIPT = ROOT / "scripts" / "gate.py"

# The guide's section 1.3, as it stands there, and what stands in its place where it is not enough.
GO_LINES = """Wasserstein Distance:
  Baseline:    0.400
  Checkpoint:  0.370
  Improvement: 7.5%

✅ GO - Improvement ≥5%
Proceed to full training!

"""
NO_GO_LINES = """Wasserstein Distance:
  Baseline:    0.400
  Checkpoint:  0.390
  Improvement: 2.5%

❌ NO-GO - Improvement <5%
DO NOT proceed to full training. Debug, adjust the config and retry Phase 1: see VALIDATION_CRITERIA.md.

"""

SAME = {
    "data_sha256": "d" * 64,
    "rows_sha256": "e" * 64,
    "prompt_fingerprint": "f" * 16,
    "decoding": {"temperature": 0.6, "top_p": 0.9},
    "seed": 0,
    "metric_version": METRIC_VERSION,
}


def metrics(distance, **changes):
    return {
        "wasserstein_distance": distance,
        "mae": 0.3,
        "rmse": 0.4,
        "correlation": 0.1,
        "correlation_within_cells": 0.05,
        "accuracy": 0.7,
        "valid_mass": 0.99,
        "bounds": {"uniform_guess": 0.8, "empirical_best": 0.0},
        "coverage": {"rows": 100, "rows_scored": 100, "cells_scored": 10},
        "comparability": SAME,
        "about": {},
        **changes,
    }


def decide(baseline, checkpoint, **options):
    return decide_on(*check_comparable(baseline, checkpoint, ("a/metrics.json", "b/metrics.json")), **options)


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def other(**changes):
    return metrics(0.3, comparability={**SAME, **changes})


@pytest.fixture
def run_gate(monkeypatch, capsys):
    """The script's own main, in this process; gives its status, or None and the error, and what it printed."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    main = runpy.run_path(str(SCRIPT))["main"]

    def run(*arguments):
        try:
            return main([*map(str, arguments)]), capsys.readouterr().out
        except SocratesError as error:
            assert capsys.readouterr().out == "", "nothing is decided"
            return None, str(error)

    return run


@pytest.fixture
def gate_on(tmp_path, run_gate):
    """Write two files (a text as it stands, anything else as JSON; None: no file) and run the gate on them."""

    def run(baseline, checkpoint, *options):
        return run_gate(*write_pair(tmp_path, baseline, checkpoint), *options)

    return run


def write_pair(folder, baseline, checkpoint):
    paths = [folder / "baseline.json", folder / "checkpoint.json"]
    for path, content in zip(paths, (baseline, checkpoint), strict=True):
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


@pytest.mark.parametrize(
    ("baseline", "checkpoint", "go", "improvement", "distances"),
    [
        (0.4, 0.37, True, "7.5", ("0.400", "0.370")),
        (0.4, 0.38, True, "5.0", ("0.400", "0.380")),  # exactly 5%, where floating point falls short of it
        (0.4, 0.380016, False, "4.996", ("0.40000", "0.38002")),  # 0.400 -> 0.380 would read as 5%
        (0.4, 0.3802, False, "4.95", ("0.4000", "0.3802")),  # to one decimal this would read 5.0 or 4.9
        (0.2, 0.19000000000000003, False, "4.99999999999998", None),
        (0.4, 0.4001, False, "-0.02", ("0.4000", "0.4001")),  # worse, and not "-0.0%"
        (0.4, 0.4, False, "0.0", ("0.400", "0.400")),
        (0.2051, 0.1512, True, "26.3", ("0.205", "0.151")),
        (0.0004, 0.0002, True, "50.0", ("0.0004", "0.0002")),
    ],
)
def test_decisions_and_the_decimals_that_they_need(baseline, checkpoint, go, improvement, distances):
    decision = decide(metrics(baseline), metrics(checkpoint))
    text = decision_text(decision)
    assert (
        (decision.decision == GO)
        == go
        == ("✅ GO - Improvement ≥5%\n" in text)
        != ("❌ NO-GO - Improvement <5%\n" in text)
    )
    assert decision.improvement_printed == f"{improvement}%" and f"  Improvement: {improvement}%\n" in text
    assert distances is None or tuple(printed_distances(decision)) == distances


@pytest.mark.parametrize(("distance", "status", "lines"), [(0.370, 0, GO_LINES), (0.390, 1, NO_GO_LINES)])
def test_the_guides_lines_byte_for_byte_in_any_locale(tmp_path, distance, status, lines):
    paths = write_pair(tmp_path, metrics(0.400), metrics(distance))
    result = run_script("gate.py", *paths, cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == status and result.stdout.startswith(lines) and result.stderr == ""


OLD_DECODING = {**SAME["decoding"], "answer_forms": []}


def test_results_of_an_earlier_version_are_compared(gate_on):
    about = {"merged": False, "asked": {"merged": False, "decoding": OLD_DECODING}}
    old = metrics(0.4, comparability={**SAME, "decoding": OLD_DECODING}, about=about)
    assert gate_on(old, metrics(0.3))[0] == gate_on(old, old | {"wasserstein_distance": 0.3})[0] == 0


def scored(cells):
    return metrics(0.3, coverage={"rows_scored": 100, "cells_scored": cells})


FORMS = {**OLD_DECODING, "answer_forms": ["leading_space"]}
OLD_METRIC = {**SAME, "metric_version": 3}
FEWER = {"rows_scored": 90, "cells_scored": 9}
REFUSED = [
    # what is wrong, the baseline's file, the checkpoint's file, what stands on stderr
    ("NaN", json.dumps(metrics(math.nan)), metrics(0.3), "NaN is not a number"),
    ("infinite distance", metrics(0.4), json.dumps(metrics(77)).replace("77", "1e999"), "1e999 is not a number that"),
    ("missing key", metrics(0.4), without(metrics(0.3), "wasserstein_distance"), '"wasserstein_distance": missing'),
    ("text", metrics(0.4), metrics("0.3"), 'must be a number, not "0.3"'),
    ("negative", metrics(0.4), metrics(-0.1), '"wasserstein_distance": must be at least 0, not -0.1'),
    ("zero baseline", metrics(0), metrics(0.0), "is 0, on which nothing can improve"),
    ("almost zero baseline", metrics(5e-324), metrics(1.0), "is 4.94066e-324, on which nothing can improve"),
    ("zero checkpoint", metrics(0.4), metrics(0.0), "checkpoint.json: "),
    ("almost zero checkpoint", metrics(0.4), metrics(5e-324), "is 4.94066e-324, on which nothing can improve"),
    *((f"{n} cells", scored(n), scored(n), '"coverage.cells_scored": must be ') for n in (0, -5, True)),
    ("cells beyond counting", scored(10**400), scored(10**400), '"coverage.cells_scored": must be '),
    ("no rows", metrics(0.4), metrics(0.3, coverage=FEWER | {"rows_scored": 0}), "must be at least 1, not 0"),
    ("a list in the decoding", *[other(decoding={"top_p": [[1]]})] * 2, '"comparability.decoding.top_p": must be'),
    ("half a character", *[other(hardware="\ud800")] * 2, "holds half a character"),
    ("signal out of range", metrics(0.4), metrics(0.3, mae=2e97), '"mae": must be at most 1'),
    ("merged", metrics(0.4), metrics(0.3, about={"merged": True}), 'made with "merged": true'),
    ("answer forms", other(decoding=FORMS), metrics(0.3), "no longer supported; evaluate again"),
    ("empty file", "", metrics(0.3), "the baseline metrics is empty"),
    ("missing file", metrics(0.4), None, "no such checkpoint metrics"),
    ("not JSON", metrics(0.4), "wasserstein_distance: 0.3", "not JSON"),
    ("duplicate key", metrics(0.4), '{"mae": 1,' + json.dumps(metrics(0.3))[1:], '"mae" stands there twice'),
    ("no comparability", metrics(0.4), without(metrics(0.3), "comparability"), '"comparability": missing'),
    ("other rows", metrics(0.4), other(rows_sha256="0" * 64), '"rows_sha256" is "eee'),
    ("a seed of a wrong type in both", other(seed=-1), other(seed=-1), '"comparability.seed": must be at least 0, not'),
    ("a damaged count", metrics(0.4), metrics(0.3, seen={"rows": "60", "of": 100}), '"seen.rows": must be a whole'),
    ("another key", metrics(0.4), other(hardware="x"), '"hardware" is null in '),
    (
        "both of an older metric",
        *[metrics(0.4, comparability=OLD_METRIC)] * 2,
        "since version 4, the distance is of",
    ),
    ("other cells", metrics(0.4), metrics(0.3, coverage=FEWER), "baseline.json scores 10 cells and "),
]


@pytest.mark.parametrize(("baseline", "checkpoint", "reason"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_no_decision_on_wrong_input(gate_on, tmp_path, baseline, checkpoint, reason):
    """Nor does an earlier decision outlive the failure."""
    (tmp_path / "decision.json").write_text('{"decision": "GO"}')
    status, error = gate_on(baseline, checkpoint, "--output", tmp_path / "decision.json")
    assert status is None and reason in error
    assert not (tmp_path / "decision.json").exists()


def test_the_script_leaves_with_2_and_its_message_alone(tmp_path):
    paths = write_pair(tmp_path, metrics(0.4), metrics("0.3"))
    result = run_loaded("gate.py", *paths)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {paths[1]}: 1 problem\n") and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "key", ["mae", "rmse", "correlation", "accuracy", "valid_mass", "coverage", *(f"comparability.{k}" for k in SAME)]
)
def test_a_missing_key_is_no_null_and_in_both_not_equal(key):
    *sections, name = key.split(".")
    lacking = metrics(0.3, comparability=without(SAME, name)) if sections else without(metrics(0.3), name)
    for pair in ((lacking, metrics(0.3)), (metrics(0.4), lacking), (lacking, lacking)):
        with pytest.raises(SocratesError, match=f'"{key}": missing'):
            decide(*pair)
    if key not in ("coverage", *(f"comparability.{k}" for k in SAME)):
        assert "N/A" in decision_text(decide(metrics(0.4, **{key: None}), metrics(0.3)))


EXTERNAL = {**SAME, "data_sha256": SAME["rows_sha256"], "prompt_fingerprint": "external", "decoding": "external"}
DECODED = '"decoding" is {"temperature": 0.6, "top_p": 0.9} in a/metrics.json and {"temp'


@pytest.mark.parametrize(
    ("ours", "changes", "parts"),
    [
        (SAME, {"seed": 5}, ['"seed" is 0 in a/metrics.json and 5 in b/metrics.json', "What to do: ", "same seed"]),
        (SAME, {"seed": 5, "decoding": {"temperature": 1.0, "top_p": 0.9}}, [DECODED, "same temperature and top_p"]),
        (SAME, EXTERNAL, ["What to do: one of them was scored from answers made elsewhere", "score_predictions.py"]),
        (EXTERNAL, {"data_sha256": "0"}, ["of answers made elsewhere, give the same --human-answers FILE"]),
        (
            EXTERNAL,
            {"data_sha256": "0", "rows_sha256": "1"},
            ["of answers made elsewhere, the same people, questions and human answers"],
        ),
        (EXTERNAL, {"seed": 1}, ["What to do: evaluate both with the same seed"]),
    ],
)
def test_every_difference_is_named_with_both_values_and_files_and_what_to_do(ours, changes, parts):
    """Of answers made elsewhere, too, which are compared with one another."""
    pair = metrics(0.4, comparability=ours), metrics(0.3, comparability={**ours, **changes})
    with pytest.raises(SocratesError) as error:
        decide(*pair)
    for part in parts:
        assert part in str(error.value)
    assert decide(pair[0], metrics(0.3, comparability=ours)).decision == GO


def test_decision_json_records_all_of_it(gate_on, tmp_path):
    output = tmp_path / "new" / "decision.json"
    before = time.time()
    status, text = gate_on(metrics(0.4), metrics(0.37, mae=0.35, correlation=None), "--output", output)
    assert status == 0
    for line in ("  MAE:          0.300 -> 0.350  worse", "  Correlation:  0.100 -> N/A  N/A"):
        assert text.index("GO - Improvement") < text.index(line + "\n")
    record = json.loads(output.read_text())
    expected = {
        "decision": "GO",
        "improvement_percent": 7.5,
        "threshold_percent": 5.0,
        "baseline_distance": 0.4,
        "checkpoint_distance": 0.37,
        "improvement_ci95": None,
        "require_significant": False,
        "uniform_guess": 0.8,
        "worse_than_uniform": False,
        "comparability": SAME,
    }
    assert {name: record[name] for name in expected} == expected
    assert record["supporting_signals"]["MAE"] == {"baseline": 0.3, "checkpoint": 0.35, "verdict": "worse"}
    for role in ("baseline", "checkpoint"):
        path = tmp_path / f"{role}.json"
        assert record["inputs"][role] == {"path": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
    decided = datetime.fromisoformat(record["decided_at"])
    assert decided.utcoffset().total_seconds() == 0
    assert abs(decided.timestamp() - before) < 60


def test_go_is_not_said_before_it_is_recorded(gate_on, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file where a folder should be")
    status, error = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "taken" / "decision.json")
    assert status is None and "taken/decision.json: cannot" in error

    def full(*_arguments):
        raise SocratesError("decision.json: cannot write: No space left on device")

    monkeypatch.setattr("socrates.files.write_json", full)
    status, error = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "decision.json")
    assert status is None and "No space" in error


@pytest.mark.parametrize("role", ["baseline", "checkpoint"])
def test_the_output_never_overwrites_what_is_compared(gate_on, tmp_path, role):
    (tmp_path / "link.json").symlink_to(f"{role}.json")
    status, error = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "link.json")
    assert status is None and "would overwrite" in error
    assert json.loads((tmp_path / f"{role}.json").read_text())["mae"] == 0.3


def test_a_device_or_a_pipe_is_not_replaced(gate_on, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    status, error = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "pipe")
    assert status is None and "is a device or a pipe" in error and (tmp_path / "pipe").is_fifo()
    with pytest.raises(SocratesError, match="is a device or a pipe"), atomic_write(tmp_path / "pipe"):
        pass


def test_a_crash_inside_is_neither_go_nor_no_go(tmp_path):
    crash = (
        f"import runpy, sys; sys.path[:0] = [{str(ROOT)!r}, {str(SCRIPT.parent)!r}]; import socrates.evaluation.gate\n"
        "def crash(*a, **k): raise RuntimeError('injected')\n"
        "socrates.evaluation.gate.decide = crash; sys.argv[0] = 'gate.py'\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", crash, *write_pair(tmp_path, metrics(0.4), metrics(0.3))]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stdout) == (2, "")
    assert "injected" in result.stderr and "defect" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("one.json",), ("a.json", "b.json", "c.json"), ("a", "b", "--out", "c")])
def test_wrong_arguments_are_no_decision(arguments, run_gate, capsys):
    with pytest.raises(SystemExit) as left:
        run_gate(*arguments)
    assert left.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_folder_or_an_unfinished_evaluation_is_named(tmp_path, run_gate):
    base, good = tmp_path / "base", write_pair(tmp_path, metrics(0.4), metrics(0.3))[1]
    base.mkdir()
    for path, reason in ((base, "name the metrics.json in it"), (base / "metrics.json", "did not finish")):
        status, error = run_gate(path, good)
        assert status is None and reason in error
    (tmp_path / "link.json").hardlink_to(good)
    for other_name in (good, tmp_path / "link.json"):
        status, error = run_gate(good, other_name)
        assert status is None and "are the same file" in error


def test_texts_of_a_file_steer_no_terminal_and_paths_of_any_bytes_are_recorded(tmp_path, run_gate):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    pair = write_pair(folder, *(metrics(w, about={"base_model": f"\x1b[2J\ud800{w}"}) for w in (0.4, 0.3)))
    status, text = run_gate(*pair, "--output", folder / "decision.json")
    assert status == 0 and "\\x1b[2J\\ud8000.4 and \\x1b[2J\\ud8000.3; is this the right baseline?" in text
    assert json.loads((folder / "decision.json").read_text())["inputs"]["baseline"]["path"] == str(pair[0])


def test_a_path_that_no_disk_takes_and_a_file_nested_too_deeply_get_a_line(tmp_path, capsys):
    result = run_loaded("gate.py", "x" * 5000, "y")
    assert (result.returncode, result.stderr) == (2, f"error: {'x' * 5000}: File name too long\n")
    with pytest.raises(SystemExit, match="2"):
        run_entry_point(lambda: flattened(reduce(lambda inner, _: {"a": inner}, range(5000), {})))
    assert capsys.readouterr().err == "error: a file that was read is nested too deeply\n"


def test_a_file_that_no_gate_wrote_is_not_replaced(gate_on, tmp_path):
    (tmp_path / "cells.jsonl").write_text("{}")
    status, error = gate_on(metrics(0.4), metrics(0.3), "--output", tmp_path / "cells.jsonl")
    assert status is None and "holds something that is no decision" in error
    assert (tmp_path / "cells.jsonl").read_text() == "{}"


def bounded(distance, uniform=0.203, best=0.06):
    return metrics(distance, bounds={"uniform_guess": uniform, "empirical_best": best})


def test_notes_flag_what_is_not_plausible_and_decide_nothing():
    leaked = decide(bounded(0.2), bounded(0.0599))
    assert leaked.decision == GO and "below 0.060, what people's own answers resampled score" in decision_text(leaked)
    assert not decide(bounded(0.2), bounded(0.06)).notes
    fewer = decide(metrics(0.2), metrics(0.15, coverage={"rows_scored": 90, "cells_scored": 10}))
    assert "scored on 100 rows, the checkpoint on 90" in decision_text(fewer)
    mute = decide(metrics(0.2, valid_mass=None), metrics(0.15, valid_mass=1e-9))
    assert (
        mute.decision == GO
        and "the checkpoint puts only 1e-09 of its probability on valid answers" in decision_text(mute)
    )
    other_base = decide(metrics(0.2, about={"base_model": "a/7B"}), metrics(0.15, about={"base_model": "a/14B"}))
    assert "a/7B and a/14B" in decision_text(other_base)


def test_no_better_than_a_uniform_guess_is_said_aloud_go_or_not():
    text = decision_text(decide(bounded(0.25), bounded(0.2034)))
    assert "GO - Improvement ≥5%" in text
    assert "⚠ No better than a uniform guess: the checkpoint scores 0.2034, guessing 0.2030 on the same cells." in text
    assert "5% better than useless may still be useless." in text
    assert "⚠" in decision_text(decide(bounded(0.203), bounded(0.203)))
    better = decide(bounded(0.25), bounded(0.2029))
    assert "⚠" not in decision_text(better) and not better.worse_than_uniform


@pytest.mark.parametrize(
    ("distance", "interval", "required", "decision", "line"),
    [
        (0.37, (2.0, 12.0), False, GO, "It straddles 5%"),
        (0.37, (2.0, 12.0), True, NO_GO, "It straddles 5%"),
        (0.37, (5.0, 12.0), True, GO, "All of it is at or above 5%"),
        (0.37, (4.99, 12.0), True, NO_GO, "95% interval of the improvement: 4.99% to 12.00%"),
        (0.37, (5.01, 12.0), True, GO, "95% interval of the improvement: 5.0% to 12.0%"),
        (0.37, None, False, GO, "95% interval of the improvement: N/A"),
        (0.39, (2.4, 2.6), True, NO_GO, "All of it is below 5%"),
    ],
)
def test_the_interval_is_told_and_decides_only_where_that_is_asked_for(distance, interval, required, decision, line):
    decided = decide(metrics(0.4), metrics(distance), interval=interval, require_significant=required)
    text = decision_text(decided)
    assert decided.decision == decision and line in text
    if decision == NO_GO:
        enough = "≥5%, but not significantly (--require-significant)" if distance < 0.38 else "<5%"
        assert f"❌ NO-GO - Improvement {enough}" in text


def test_significance_that_cannot_be_told_is_no_decision():
    with pytest.raises(SocratesError, match=r"cells\.jsonl"):
        decide(metrics(0.4), metrics(0.3), require_significant=True)


def test_the_interval_comes_from_the_same_cells_of_both(tmp_path, run_gate):
    world = make_world()
    for name, quality in (("before", 0.0), ("after", 0.4)):
        write_made_results(tmp_path / name, world, quality, model=name)
    before, after = (tmp_path / name / "metrics.json" for name in ("before", "after"))
    _, text = run_gate(before, after, "--output", tmp_path / "decision.json")
    record = json.loads((tmp_path / "decision.json").read_text())
    low, high = record["improvement_ci95"]
    assert low < record["improvement_percent"] < high
    assert f"95% interval of the improvement: {low:.1f}% to {high:.1f}%" in text
    # Against another way to the same interval: studies alone, drawn by hand. Cells within a study add to it.
    sides = [json_lines(path.with_name("cells.jsonl")) for path in (before, after)]
    distances = np.array([[cell["wasserstein_distance"] for cell in side] for side in sides], dtype=float)
    means = np.nanmean(distances.reshape(2, 6, 6), axis=2)
    drawn = means[:, np.random.default_rng(0).integers(6, size=(20_000, 6))].mean(axis=2)
    spread = np.std(1 - drawn[1] / drawn[0]) * 100
    assert 1.5 * 1.96 * spread < high - low < 4 * 1.96 * spread

    cells = after.with_name("cells.jsonl")
    cells.write_text("".join(cells.read_text().splitlines(keepends=True)[1:]))
    status, error = run_gate(before, after)
    assert status is None and "is not of the metrics.json beside it" in error
    cells.unlink()
    status, text = run_gate(before, after)
    assert status in (0, 1) and "95% interval of the improvement: N/A" in text


thousandths = st.integers(1, 1000).map(lambda n: n / 1000)


@given(thousandths | st.floats(1e-3, 1), thousandths | st.floats(1e-90, 1))
def test_what_is_printed_never_contradicts_the_decision(baseline, checkpoint):
    decision = decide(metrics(baseline), metrics(checkpoint))
    go, improvement = decision.decision == GO, (1 - Fraction(repr(checkpoint)) / Fraction(repr(baseline))) * 100
    shown = Fraction(decision.improvement_printed.removesuffix("%"))
    assert (shown >= 5) == (improvement >= 5) == go
    assert abs(shown - improvement) <= Fraction(1, 20)
    assert (shown > 0, shown < 0) == (improvement > 0, improvement < 0)
    before, after = map(Fraction, printed_distances(decision))
    assert ((1 - after / before) * 100 >= 5) == go
    assert abs(before - Fraction(baseline)) <= Fraction(1, 2000)


def test_rows_that_may_have_been_trained_on_are_told_and_recorded(gate_on, tmp_path):
    seen = {"rows": 60, "of": 100, "studies": ["s1"], "split": None}
    status, text = gate_on(metrics(0.4, seen=None), metrics(0.3, seen=seen), "--output", tmp_path / "decision.json")
    assert status == 0
    assert "Note: the checkpoint may have been trained on 60 of the 100 rows that it is evaluated on" in text
    record = json.loads((tmp_path / "decision.json").read_text())
    assert "trained on 60" in record["notes"][0] and record["rows_seen"] == {"baseline": 0, "checkpoint": 60}
    for unknown in ({}, {"seen": None}, {"seen": seen | {"rows": 0}}):
        assert "trained on" not in decision_text(decide(metrics(0.4), metrics(0.3, **unknown)))
