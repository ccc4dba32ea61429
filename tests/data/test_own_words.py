"""What a row says itself: read, kept by preparation, refused where it makes no sense; steps and decimals."""

import json
import re
from collections import Counter

import pytest

from socrates.data.prepare.lines import to_answer, to_line
from socrates.data.records import Cell, parse_answer, read_answers
from socrates.data.scales import MAX_VALUES, Scale, scale_from_text
from socrates.errors import SocratesError

TEXT = "How fair is it? Only return an integer from 1 to 7, nothing else."


def row(**fields):
    return {"study_id": "s", "condition_num": 0, "task_num": 1, "stimuli": TEXT, "response": 3, **fields}


@pytest.mark.parametrize(
    "text, values",
    [
        ("1 to 7", (1, 2, 3, 4, 5, 6, 7)),
        ("1, 2, 8", (1, 2, 8)),
        ("0 to 200 by 50", (0, 50, 100, 150, 200)),
        ("0 to 1 by 0.25", (0, 0.25, 0.5, 0.75, 1)),
        ("-0.5 to 0.7 by 0.3", (-0.5, -0.2, 0.1, 0.4, 0.7)),
        ("0, 50, 100", (0, 50, 100)),
        ("1 to 5, 99", (1, 2, 3, 4, 5, 99)),
    ],
)
def test_a_scale_is_written_as_it_is_read(text, values):
    scale = scale_from_text(text)
    assert scale.values == values and str(scale) == text
    assert all(isinstance(value, int) or value % 1 for value in scale.values), "a whole number's text has no point"


@pytest.mark.parametrize(
    "text",
    ["", "x", "7 to 1", "0 to 1 by 0.3", "0 to 1 by 0", "1 by 2", "0.00001", "nan", "1e99", f"0 to {MAX_VALUES}"],
)
def test_what_is_no_scale(text):
    with pytest.raises(ValueError):
        scale_from_text(text)


def test_the_rows_own_word_wins_over_the_text_and_outlives_preparation():
    own = {
        "scale": {"1": "No", "2": "Maybe", "3": "Yes", "9": "Refused"},
        "missing": [9],
        "nominal": True,
        "weight": 0.5,
    }
    for given in (row(**own), json.loads(to_line(to_answer(row(**own))))):
        answer = parse_answer(given, "f", 1)
        assert answer.stated == (Scale((1, 2, 3)), "given with the row", frozenset({9}))
        assert (answer.own.nominal, answer.own.weight, answer.is_missing) == (True, 0.5, False)
    assert parse_answer(row(**own) | {"response": 9}, "f", 1).is_missing
    plain = parse_answer(row(), "f", 1)
    assert plain.stated[0] == Scale(tuple(range(1, 8))) and not to_line(plain).count(b"weight")
    assert parse_answer(row(scale=None, nominal=None, missing=None, weight=None), "f", 1).own == plain.own


def test_a_decimal_answer_needs_a_scale_that_has_decimals():
    assert parse_answer(row(scale="0 to 1 by 0.1", response=0.3), "f", 1).response == 0.3
    assert parse_answer(row(scale="0 to 1 by 0.1", response=1.0), "f", 1).response == 1
    for scale in (None, "0 to 7"):
        with pytest.raises(SocratesError, match="must be a whole number, not 0"):
            parse_answer(row(scale=scale, response=0.3), "f", 1)


def test_answers_of_many_lose_those_that_are_missing(tmp_path):
    many = {key: value for key, value in row().items() if key != "response"}
    shares = {"1": 0.25, "2": 0.5, "9": 0.26}  # rounded: they miss 1
    rows = [{**many, "shares": shares, "n": 101, "missing": [9]}, {**many, "counts": {"9": 4}, "missing": [9]}]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    missing = Counter()
    (answer,) = read_answers(tmp_path / "rows.jsonl", missing)
    assert dict(answer.counts) == {1: 25.0, 2: 50.0} and answer.response is None
    assert missing == {(Cell("s", 0, 1), 9): 30.0}


@pytest.mark.parametrize(
    "bad, told",
    [
        ({"scale": "one to five"}, '"scale": must name the valid answers'),
        ({"scale": ["1"]}, '"scale": must name the valid answers'),
        ({"scale": {"x": "No"}}, '"scale": must name the valid answers'),
        ({"nominal": "yes"}, '"nominal": must be true or false'),
        ({"missing": 99}, '"missing": must be a list'),
        ({"weight": 0}, '"weight": must be above 0'),
        ({"weight": float("nan")}, '"weight": must be a finite number'),
        ({"counts": {"1": 3}}, 'holds both "response", of one person, and "counts"'),
        ({"response": None, "counts": {"one": 3}}, '"counts": must be an object, answer -> number'),
        ({"response": None, "counts": {"1": 0}}, '"counts": must hold the answers of one person at least'),
        ({"response": None, "counts": {"1": -1}}, '"counts.1": must be at least 0'),
        ({"response": None, "shares": {"1": 0.3}, "n": 9}, '"shares" sum to 0.3, not to 1'),
        ({"response": None, "shares": {"1": 1}}, '"shares" and "n", the number of people'),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_by_line_and_key(bad, told):
    with pytest.raises(SocratesError, match=f"^f, line 4: (?s:.*){re.escape(told)}"):
        parse_answer(row(**bad), "f", 4)
