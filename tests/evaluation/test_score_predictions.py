"""Answers made elsewhere, scored; and what a results folder promises."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import re
import runpy
import shutil
from collections import Counter
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from comparing import json_lines
from processes import ROOT, run_loaded

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.cells import Distribution, ScoredRow
from socrates.evaluation.lines import (
    prediction_line,
    read_predictions,
    round_probability,
    rows_sha256,
    scored_row,
)
from socrates.evaluation.metrics import DISTANCES, METRIC_VERSION, Metrics, score
from socrates.evaluation.results import MetricsFile, comparability, read_metrics, write_results
from socrates.evaluation.sampling import sample_predictions
from socrates.files import write_json, write_jsonl

SCRIPT = ROOT / "scripts" / "score_predictions.py"
NUMBERS = tuple(field.name for field in fields(Metrics))


@pytest.fixture
def score_file(monkeypatch):
    """The script's own main, in this process: SciPy loads once."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    main = runpy.run_path(str(SCRIPT))["main"]
    return lambda file, output, *options: main([str(file), "--output", str(output), *options])


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(response=1, task=1, study="aaaaa", **fields):
    return {"study_id": study, "condition_num": 0, "task_num": task, "response": response, **fields}


def made_up_lines(n=120, seed=5):
    """Lines as an evaluation makes them, before the draw: exact probabilities in float32, some rows without."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(n):
        keys = {"study_id": f"s{i % 3}", "condition_num": i % 2, "task_num": i % 4 if i % 3 else "q-1f"}
        keys |= {"participant": i, "sample_id": None, "line": i + 1}
        top = (5, 11, 101)[i % 3]
        probabilities = rng.dirichlet(np.ones(top)).astype(np.float32)
        distribution = dict(zip(range(top), probabilities, strict=True)) if i % 17 else None
        mass = np.float32(rng.random()) if distribution else None
        lines.append(prediction_line(keys, np.int64(rng.integers(0, top)), distribution=distribution, valid_mass=mass))
    return lines


def write_made_up_results(folder, lines=None, seed=3, **about):
    lines = sample_predictions(made_up_lines() if lines is None else lines, seed)
    of = {"data_sha256": "d" * 64, "prompt_fingerprint": "f" * 16, "decoding": {"temperature": 0.6, "top_p": 0.9}}
    identity = comparability(lines, seed=seed, **of)
    scores = score(map(scored_row, lines))
    return write_results(folder, scores=scores, predictions=lines, comparability=identity, about=about), scores, lines


def test_the_script_gives_what_the_library_gives(tmp_path):
    """Of a file with predictions, one missing, and distributions, over two studies."""
    rows = [
        row(1, prediction=1),
        row(4, prediction=2),
        row(3, prediction=None),
        row(2, task=2, prediction=9.5),
        row(5, task=2, prediction=3, participant=7, sample_id="x"),
        row(1, study="bbbbb", predicted_distribution={"1": 0.25, "2": 0.75}),
        row(2, study="bbbbb", predicted_distribution={"2": 1}),
        row(2, study="bbbbb", prediction=1, predicted_distribution={"1": 1, "2": 0}),
    ]
    mixed = write_lines(tmp_path / "answers.jsonl", rows)
    result = run_loaded(SCRIPT.name, mixed, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    content = read_metrics(tmp_path / "out" / "metrics.json")
    drawn = [line["prediction"] for line in json_lines(tmp_path / "out" / "predictions.jsonl")]
    assert drawn[:5] == [1, 2, None, 9.5, 3] and drawn[5] in (1, 2) and drawn[6:] == [2, 1]

    a1, a2, b = Cell("aaaaa", 0, 1), Cell("aaaaa", 0, 2), Cell("bbbbb", 0, 1)
    rows = [ScoredRow(a1, 1, 1), ScoredRow(a1, 4, 2), ScoredRow(a1, 3, None), ScoredRow(a2, 2, 9.5)]
    rows += [ScoredRow(a2, 5, 3), ScoredRow(b, 1, drawn[5], Distribution((1, 2), (0.25, 0.75)))]
    rows += [ScoredRow(b, 2, 2, Distribution((2,), (1,))), ScoredRow(b, 2, 1, Distribution((1, 2), (1, 0)))]
    library = score(rows)
    assert {name: content[name] for name in NUMBERS} == asdict(library.metrics)
    assert {name: content["bounds"][name] for name in asdict(library.bounds)} == asdict(library.bounds)
    assert content["coverage"] == asdict(library.coverage)
    assert content["valid_mass"] is None
    identity = content["comparability"]  # the gate compares such results with one another, and not with an evaluation
    assert identity["data_sha256"] == identity["rows_sha256"] == rows_sha256(read_predictions(mixed))
    assert identity["prompt_fingerprint"] == identity["decoding"] == "external"
    assert "Scored 7 of 8 rows, 3 of 3 cells, 2 of 2 studies" in result.stdout
    assert "Rows without a prediction: 1" in result.stdout
    low, high = content["wasserstein_distance_ci95"]
    assert low <= content["wasserstein_distance"] <= high
    shown = f"{content['wasserstein_distance']:.4f}  [{low:.4f}, {high:.4f}]"
    assert re.search(rf"^Wasserstein distance: +{re.escape(shown)}$", result.stdout, re.M)
    assert content["coverage"]["cells_drawn"] == 2 and content["wasserstein_drawn"] != content["wasserstein_distance"]
    assert f"Results: {tmp_path / 'out' / 'metrics.json'}" in result.stdout


def test_scoring_a_written_predictions_file_gives_its_own_metrics(tmp_path, score_file):
    written, _, _ = write_made_up_results(tmp_path / "evaluated")
    score_file(tmp_path / "evaluated" / "predictions.jsonl", tmp_path / "again", "--seed", "99")
    again = read_metrics(tmp_path / "again" / "metrics.json")
    for name in (*NUMBERS, "valid_mass", "coverage"):
        assert again[name] == written[name], name
    assert again["comparability"]["rows_sha256"] == written["comparability"]["rows_sha256"]
    for name in ("predictions.jsonl", "cells.jsonl", "effects.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "evaluated" / name).read_bytes()


@pytest.fixture
def of_many(tmp_path):
    """Two rows that a model was asked about, and a data file with eight people who answered: (answers, data file)."""
    people = [row(response, participant=i, prompt="How many?") for i, response in enumerate((1, 2, 2, 3, 3, 3, 4, 9))]
    asked = [{**people[i], "prediction": 2, "scale": "1 to 4, 9"} for i in (1, 3)]
    return write_lines(tmp_path / "asked.jsonl", asked), write_lines(tmp_path / "val.jsonl", people)


def test_all_human_answers_come_from_a_data_file_or_from_cells(of_many, tmp_path, score_file):
    asked, people = of_many
    score_file(asked, tmp_path / "a", "--human-answers", str(people))
    (cell,) = json_lines(tmp_path / "a" / "cells.jsonl")
    assert cell["human_answers"] == {"1": 1, "2": 2, "3": 3, "4": 1, "9": 1}
    assert (cell["n_human"], cell["n_asked"], cell["human_min"], cell["human_max"]) == (8, 2, 1, 9)
    assert cell["scale"] == "1 to 4, 9"
    assert cell["wasserstein_distance"] == pytest.approx((1 + 3 * 1 + 2 + 7) / 8 / 8)
    # Once more from the written results: the same numbers and the same bytes.
    score_file(tmp_path / "a" / "predictions.jsonl", tmp_path / "b")
    score_file(asked, tmp_path / "c", "--human-answers", str(tmp_path / "a" / "cells.jsonl"))
    first, *others = (read_metrics(tmp_path / name / "metrics.json") for name in "abc")
    for other in others:
        assert {**other, "about": None} == {**first, "about": None}
    # Of the asked alone it is another result, which the gate must not compare with it.
    score_file(asked, tmp_path / "d")
    alone = read_metrics(tmp_path / "d" / "metrics.json")
    assert alone["comparability"]["data_sha256"] != first["comparability"]["data_sha256"]
    assert alone["coverage"]["human_answers"] == 2


REFUSABLE = "How good is it? Only return an integer from 1 to 5, or 99 for 'Refused', nothing else."


def test_missing_answers_do_not_hide_a_bad_model(tmp_path, score_file, capsys):
    """One of 20 people refuses, and where the model does so, or says what no scale has: people low, the model high."""
    people = [
        row(response, participant=i, prompt=REFUSABLE) for i, response in enumerate([*([1] * 9), *([2] * 10), 99])
    ]
    given = [4, *[5] * 16, 2e99, 99, 5]
    asked = [{**one, "prediction": answer, "scale": "1 to 5"} for one, answer in zip(people, given, strict=True)]
    asked[0] |= {"prediction": None, "predicted_distribution": {"4": 0.5, "99": 0.5}}
    data, answers = write_lines(tmp_path / "val.jsonl", people), write_lines(tmp_path / "asked.jsonl", asked)
    score_file(answers, tmp_path / "a", "--human-answers", str(data))
    found = read_metrics(tmp_path / "a/metrics.json")
    assert found["wasserstein_distance"] == pytest.approx(9 / 19) and found["wasserstein_stated_scale"] > 0.7
    coverage = found["coverage"]
    assert (coverage["human_answers"], coverage["missing_answers"], coverage["predictions_outside"]) == (19, 1, 1)
    assert (coverage["rows"], coverage["rows_predicted"]) == (19, 18), "where the model refuses, it gives no answer"
    printed = capsys.readouterr().out
    assert "not applicable), left out: 1" in printed and "end of people's range: 1" in printed
    score_file(tmp_path / "a/predictions.jsonl", tmp_path / "b")
    assert read_metrics(tmp_path / "b/metrics.json")["coverage"] == coverage
    write_json(tmp_path / "a/metrics.json", found | {"comparability": found["comparability"] | {"metric_version": 3}})
    with pytest.raises(SocratesError, match=r'"metric_version" is 3: .* since version 4, the distance is of'):
        score_file(tmp_path / "a/predictions.jsonl", tmp_path / "c")


COUNTED = {**row(1), "n_human": 8, "n_predicted": 2, "skipped": None, "predicted_answers": {"2": 2}}
COUNTED |= {"predicted_distribution": None, **dict.fromkeys(DISTANCES)}  # a line of a cells.jsonl


@pytest.mark.parametrize(
    ("people", "reason"),
    [
        ([row(1), row(2)], "1 rows have the human answer 3, and all human answers of the cell hold it 0 times"),
        ([row(1), {"study_id": "aaaaa"}], 'people.jsonl, line 2: no "response"'),
        ([{**row(), "human_answers": {"1": 2}}], 'people.jsonl, line 1: no "n_human"; made by an older'),
        ([row(1, study="zzzzz")], "1 of the 1 cells are not among the human answers given, the first of them study aa"),
        ([COUNTED], 'no "human_answers"; made by an older version of this program'),
        ([{**COUNTED, "human_answers": {"3": 4, "3.0": 4}}], '"human_answers" are of 4 people, "n_human" says 8'),
        ([], "people.jsonl: holds no rows"),
        *(
            ([{**COUNTED, "human_answers": counts}], 'people.jsonl, line 1: 1 problem\n  "human_answers')
            for counts in ({}, {"1": 0}, {"one": 3}, {"1": -1.5}, [1, 2], {"1": 10**400, "2": 1}, {"1e101": 1, "2": 1})
        ),
    ],
)
def test_human_answers_that_cannot_be_used(of_many, tmp_path, score_file, people, reason):
    file = write_lines(tmp_path / "people.jsonl", [{"prompt": "How many?", **one} for one in people])
    with pytest.raises(SocratesError) as error:
        score_file(of_many[0], tmp_path / "out", "--human-answers", str(file))
    assert reason in str(error.value) and not (tmp_path / "out" / "metrics.json").exists()


def test_effects_and_groups_stand_in_the_results(tmp_path, score_file):
    rng = np.random.default_rng(2)
    rows = [
        {
            **row(int(rng.integers(1, 6)) + condition, study=f"s{study}"),
            "condition_num": condition,
            "prediction": 3 + condition if person % 2 else 9,
            "demographic": {"gender": "Woman" if person % 2 else "man", "age": None},
        }
        for study in range(3)
        for condition in range(2)
        for person in range(40)
    ]
    score_file(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out")
    metrics = read_metrics(tmp_path / "out" / "metrics.json")
    assert metrics["effects"]["pairs"] == 3
    lines = json_lines(tmp_path / "out" / "effects.jsonl")
    found = [(line["study_id"], line["condition_a"], line["condition_b"]) for line in lines]
    assert found == [(f"s{study}", 0, 1) for study in range(3)]
    woman, man = sorted(metrics["groups"]["gender"]["groups"], key=lambda group: -group["accuracy"])
    assert (woman["group"], woman["rows"], man["group"]) == ("Woman", 120, "man")
    assert list(metrics["groups"]) == ["gender"]
    assert (woman["accuracy"] + man["accuracy"]) / 2 == pytest.approx(1 - metrics["mae"])


def test_cells_that_lack_one_are_not_filled_up_with_the_rows(tmp_path, score_file):
    rows = [
        {**row(r, prediction=2), "condition_num": c, "task_num": t} for c, t in ((1, 2), (1, 10)) for r in (1, 2, 3)
    ]
    score_file(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "a")
    cells = tmp_path / "a" / "cells.jsonl"
    cells.write_text(cells.read_text().splitlines(keepends=True)[0])
    with pytest.raises(SocratesError, match=r"cells\.jsonl.*1 of the 2 cells .* condition 1, task 10: "):
        score_file(tmp_path / "a" / "predictions.jsonl", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_is_written_is_what_was_scored(tmp_path):
    lines = [line for line in made_up_lines() if line["predicted_distribution"]]
    written, scores, lines = write_made_up_results(tmp_path, lines, model="tiny")
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(written))
    assert [name for name in written if not name.endswith("_ci95")] == list(MetricsFile.__annotations__)
    for numbers in (written, written["bounds"]):
        limits = {name: numbers[name] for name in numbers if name.endswith("_ci95") and numbers[name]}
        assert limits
        for name, (low, high) in limits.items():
            assert low <= numbers[name.removesuffix("_ci95")] <= high, name
    assert written["about"] == {"model": "tiny"}
    assert written["wasserstein_distance"] == scores.metrics.wasserstein_distance != written["wasserstein_drawn"]
    assert written["comparability"]["metric_version"] == METRIC_VERSION
    assert json_lines(tmp_path / "predictions.jsonl") == lines
    cells = json_lines(tmp_path / "cells.jsonl")
    assert len(cells) == written["coverage"]["cells"]
    assert [c["wasserstein_distance"] for c in cells] == [c.wasserstein_distance for c in scores.cells]


def test_scored_again_the_rows_that_the_model_was_trained_on_are_still_told(tmp_path, score_file):
    seen = {"rows": 1, "of": 2, "studies": ["s"], "split": None}
    rows = [{"study_id": "s", "condition_num": 0, "task_num": 0, "response": n, "prediction": n} for n in (1, 2)]
    write_jsonl(tmp_path / "evaluation/predictions.jsonl", rows)
    write_json(tmp_path / "evaluation/metrics.json", {"seen": seen})
    assert score_file(tmp_path / "evaluation/predictions.jsonl", tmp_path / "again") == 0
    assert read_metrics(tmp_path / "again/metrics.json")["seen"] == seen
    write_json(tmp_path / "evaluation/metrics.json", {"seen": "1 of 2"})
    with pytest.raises(SocratesError, match=r'metrics.json, "seen": 1 problem'):
        score_file(tmp_path / "evaluation/predictions.jsonl", tmp_path / "again")


def test_valid_mass_is_the_mean_over_the_rows_that_have_one(tmp_path):
    lines = [{**line, "valid_mass": mass} for line, mass in zip(made_up_lines(), [0.5, None, 0.9] * 40, strict=True)]
    assert write_made_up_results(tmp_path / "some", lines)[0]["valid_mass"] == pytest.approx(0.7)
    none = [{**line, "valid_mass": None} for line in lines]
    assert write_made_up_results(tmp_path / "none", none)[0]["valid_mass"] is None


def test_probabilities_are_normalised_and_rounded_to_nine_digits():
    keys = {"study_id": "a", "condition_num": 0, "task_num": 1, "participant": None, "sample_id": None, "line": 1}
    line = prediction_line(keys, 2, distribution={10: 1.0, 2: 2.0}, valid_mass=1.0000001)
    assert line["predicted_distribution"] == {"2": 0.666666667, "10": 0.333333333}
    assert list(line["predicted_distribution"]) == ["2", "10"]  # in ascending order of the numbers
    assert line["valid_mass"] == 1
    assert round_probability(1.23456789012e-7) == 1.23456789e-7


# Drawing


def test_draws_depend_on_seed_and_row_and_not_on_order():
    lines = made_up_lines()
    drawn = sample_predictions(lines, 0)
    shuffled = random.Random(1).sample(lines, len(lines))
    by_participant = {line["participant"]: line["prediction"] for line in sample_predictions(shuffled, 0)}
    assert by_participant == {line["participant"]: line["prediction"] for line in drawn}
    assert sample_predictions(lines[:7], 0) == drawn[:7]  # nor on the rest of the file
    assert sample_predictions(lines, 1) != drawn
    assert all(line["prediction"] is None for line in lines)  # the input stays as it is
    assert sample_predictions(drawn, 1) == drawn  # what has a prediction keeps it


def test_rows_without_names_are_drawn_apart_and_in_any_order(tmp_path):
    rows = [row(r, predicted_distribution={"1": 0.5, "2": 0.5}) for r in (1, 2) for _ in range(200)]
    rows += [row(1, predicted_distribution={"1": 0.1, "2": 0.9})]
    lines = read_predictions(write_lines(tmp_path / "in.jsonl", rows))
    drawn = [line["prediction"] for line in sample_predictions(lines, 0)]
    assert 150 < drawn.count(1) < 250  # one number for all would give 0 or 400

    def counted(some_lines):
        return Counter(
            (line["response"], str(line["predicted_distribution"]), line["prediction"])
            for line in sample_predictions(some_lines, 0)
        )

    assert counted(lines) == counted(lines[::-1]) == counted(random.Random(3).sample(lines, len(lines)))


def test_draws_follow_the_distribution_and_two_models_share_their_luck():
    keys = {"study_id": "a", "condition_num": 0, "task_num": 1, "sample_id": None, "line": 1}
    # Text order is 10, 2, 5: a draw over "sorted" texts would put the quantiles in the wrong places.
    p, q = {2: 0.2, 5: 0.0, 10: 0.8}, {2: 0.3, 5: 0.0, 10: 0.7}

    def draw(distribution):
        lines = [prediction_line({**keys, "participant": i}, 2, distribution=distribution) for i in range(4000)]
        return [line["prediction"] for line in sample_predictions(lines, 0)]

    one, other = draw(p), draw(q)
    assert set(one) == {2, 10}
    assert one.count(2) == pytest.approx(800, abs=4 * math.sqrt(4000 * 0.2 * 0.8))
    assert sum(a != b for a, b in zip(one, other, strict=True)) == one.count(10) - other.count(10)


# What may be compared


def test_rows_hash_is_the_documented_one_of_rows_not_of_predictions_or_order():
    lines = made_up_lines()
    same = [{**line, "prediction": 1, "predicted_distribution": None, "line": 0} for line in lines[::-1]]
    assert rows_sha256(same) == rows_sha256(lines)
    for key, value in (("response", 77), ("participant", 777), ("sample_id", 0), ("task_num", 9), ("study_id", "z")):
        assert rows_sha256([{**lines[0], key: value}, *lines[1:]]) != rows_sha256(lines), key
    assert rows_sha256(lines[1:]) != rows_sha256(lines)
    lines = [row(2, participant=1, sample_id=None), row(1, participant=0, sample_id="é")]
    text = '["aaaaa",0,1,0,"é",1]\n["aaaaa",0,1,1,null,2]'
    assert rows_sha256(lines) == sha256(text.encode()).hexdigest()


# Wrong input

D = "predicted_distribution"
BAD = [
    ("{not json", "line 2: not JSON"),
    (row(), 'neither "prediction" nor "predicted_distribution"'),
    ({k: v for k, v in row(prediction=1).items() if k != "response"}, '"response": missing'),
    (row("1", prediction=1), '"response": must be a number, not "1"'),
    (row(math.nan, prediction=1), "NaN is not a number that JSON allows"),
    (row(prediction="2"), '"prediction": must be a number, not "2"'),
    (json.dumps(row(prediction=77)).replace("77", "1e999"), '"prediction": must be a finite number, not Infinity'),
    (row(1e101, prediction=1), '"response": must be at most 1e+100'),
    (row(prediction=-(10**400)), '"prediction": must be a number'),
    (row(**{D: {"1e101": 1}}), '"1e101" is no answer'),
    (row(prediction=1, study=""), '"study_id" must be a text'),
    (row(prediction=1, participant=[1]), '"participant" must be a whole number'),
    (row(prediction=1, valid_mass=1.5), '"valid_mass": must be at most 1, not 1.5'),
    (row(**{D: {"1": 0.5, "2": 0.4}}), f'"{D}": the probabilities sum to 0.9, not to 1'),
    (row(**{D: {"1": 1.5, "2": -0.5}}), f'"{D}.1": must be at most 1, not 1.5'),
    (row(**{D: {"agree": 1}}), '"agree" is no answer'),
    (row(**{D: {"1": 0.5, "1.0": 0.5}}), "the answer 1 stands there twice"),
    (row(**{D: {}}), "must be an object, answer -> probability"),
    (row(prediction=1, scale="1 to 99999999"), '"scale": must name the valid answers'),
    (row(prediction=1, demographic="age 34"), '"demographic": must be an object'),
    (row(prediction=1, demographic={"age": [34]}), 'field "age" must be a text, a finite number or null, not [34]'),
    (row(prediction=1, demographic={"age": "\ud800"}), '"age" holds half a character'),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path, bad, reason):
    text = bad if isinstance(bad, str) else json.dumps(bad)
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(row(prediction=1)) + "\n" + text + "\n")
    with pytest.raises(SocratesError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}, line 2: ") and reason in str(error.value)


NOTHING = [
    (None, "no such data file"),
    ([], "holds no rows"),
    ([row(prediction=1)], "none of the 1 cells can be scored"),
]


@pytest.mark.parametrize(("rows", "reason"), NOTHING)
def test_what_cannot_be_scored_leaves_nothing_behind(tmp_path, score_file, rows, reason):
    path = tmp_path / "in.jsonl"
    if rows is not None:
        write_lines(path, rows)
    with pytest.raises(SocratesError) as error:
        score_file(path, tmp_path / "out")
    assert str(error.value).startswith(str(path)) and reason in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_file_itself_is_refused(tmp_path, score_file):
    write_made_up_results(tmp_path / "evaluated")
    before = (tmp_path / "evaluated" / "metrics.json").read_bytes()
    with pytest.raises(SocratesError, match="would overwrite"):
        score_file(tmp_path / "evaluated" / "predictions.jsonl", tmp_path / "evaluated")
    assert (tmp_path / "evaluated" / "metrics.json").read_bytes() == before


def test_where_only_the_model_refuses_that_is_none_of_its_answers(tmp_path, score_file):
    people = [row(response, participant=response, prompt=REFUSABLE) for response in (1, 2, 3)]
    asked = [{**one, "prediction": answer} for one, answer in zip(people, (1, 2, 99), strict=True)]
    data, answers = write_lines(tmp_path / "val.jsonl", people), write_lines(tmp_path / "asked.jsonl", asked)
    score_file(answers, tmp_path / "out", "--human-answers", str(data))
    assert read_metrics(tmp_path / "out/metrics.json")["coverage"]["rows_predicted"] == 2


def test_other_results_in_the_folder_are_replaced_only_where_that_is_said(tmp_path, score_file):
    """The same command again is fine, also where it was broken off before its last file."""
    answers, others = (
        write_lines(tmp_path / f"{n}.jsonl", [row(1, prediction=n), row(4, prediction=2)]) for n in (1, 3)
    )
    output = tmp_path / "out"
    score_file(answers, output)
    ours = {path.name: path.read_bytes() for path in output.iterdir()}

    def refused(file=others, why="of another evaluation: scored_file_sha256 ", *options):
        before = {path.name: path.read_bytes() for path in output.iterdir()}
        with pytest.raises(SocratesError, match=f"{re.escape(str(output))}: .*{re.escape(why)}"):
            score_file(file, output, *options)
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before

    refused()
    refused(answers, "of another evaluation: seed (42, now 1)", "--seed", "1")
    (output / "metrics.json").unlink()
    refused(others, "holds predictions.jsonl, and no metrics.json that says where it is from")
    score_file(answers, output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == ours
    score_file(others, output, "--overwrite")
    refused(answers)
    shutil.rmtree(output)
    write_made_up_results(output, asked=7)
    (output / "decision.json").write_text('{"decision": "GO"}')
    refused(others, "it does not say of what model; choose another --output, or replace them with --overwrite")
    score_file(others, output, "--overwrite")
    assert not (output / "decision.json").exists(), "it was of the results before"
    (output / "manifest.json").write_text("{}")
    refused(others, "is a checkpoint, to which nothing is written", "--overwrite")


# A results folder is of one piece


@pytest.mark.parametrize("failing", ["predictions.jsonl", "cells.jsonl", "effects.jsonl", "metrics.json"])
def test_a_full_disk_leaves_no_metrics_and_nothing_half_written(tmp_path, monkeypatch, failing):
    write_made_up_results(tmp_path)
    assert (tmp_path / "metrics.json").exists()
    fsync = os.fsync

    def full_disk(descriptor):
        if failing in Path(f"/proc/self/fd/{descriptor}").resolve().name:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(SocratesError, match=f"{failing}: cannot write: No space left on device; free some space"):
        write_made_up_results(tmp_path, made_up_lines(seed=6))
    monkeypatch.undo()
    assert not (tmp_path / "metrics.json").exists()  # the older one belongs to other predictions
    for name in ("predictions.jsonl", "cells.jsonl", "effects.jsonl"):
        assert json_lines(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.jsonl", "cells.jsonl", "effects.jsonl"}
