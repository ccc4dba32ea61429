"""Looking into a data file: every count on rows made for it; bad rows, text, JSON and the page."""

import html
import json
import re
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from processes import ROOT, run_loaded
from published import instruction_row, made_rows, write_rows

from socrates.console import share
from socrates.data.inspect import inspect_file
from socrates.data.records import read_answers, render_prompt
from socrates.data.scales.reasons import OPEN
from socrates.data.scales.text import NAMED, RANGE
from socrates.errors import SocratesError
from socrates.report.inspection import default_page, inspection_tables, inspection_text, page

SEVEN = "Only return an integer from 1 to 7, nothing else."
YES_NO = "Only return 1 for 'Yes' or 2 for 'No', nothing else."
DOLLARS = "How much would you pay? Only return an integer representing dollars, nothing else."


def row(study="aaaa1", condition=0, task=0, person=1, response=4, text="A lake. How warm is it? " + SEVEN, **fields):
    demographic = fields.pop("demographic", {"age": 30 + person, "gender": "Female", "income": None})
    return {
        "study_id": study,
        "condition_num": condition,
        "task_num": task,
        "participant": person,
        "sample_id": 0,
        "demographic": demographic,
        "stimuli": text,
        "prompt": render_prompt(demographic, text),
        "response": response,
        **fields,
    }


def planted():
    """Rows with one of each phenomenon, and how often each was planted."""
    lake, pond = (f"A {what}. How warm is it? {SEVEN}" for what in ("lake", "pond"))
    return [
        # aaaa1: one cell with a spread, one of equal answers, one of one answer
        *(row(person=i, response=i) for i in (1, 2, 3, 4)),
        *(row(person=i, response=5, condition=1) for i in (5, 6)),
        row(person=7, response=2, condition=2),
        # bbbb2: person 1 twice with other stimuli, person 2 three times, two of them alike, person 3 in two conditions
        row("bbbb2", person=1, text=lake),
        row("bbbb2", person=1, text=pond, response=3),
        row("bbbb2", person=2, text=lake),
        row("bbbb2", person=2, text=pond),
        row("bbbb2", person=2, text=pond, response=1),
        row("bbbb2", person=3, text=lake),
        row("bbbb2", person=3, text=lake, condition=1),
        # cccc3: 8 and 99999 lie outside, twice and once; no scale in three rows; an option has a gap
        row("cccc3", person=1, response=8, text="Is it warm? " + YES_NO),
        row("cccc3", person=2, response=8, text="Is it warm? " + YES_NO),
        row("cccc3", person=3, response=2, text="Is it warm? " + YES_NO),
        row("cccc3", person=4, response=99999, task=1),
        *(row("cccc3", person=i, response=100 * i, task=2, text=DOLLARS) for i in (5, 6, 7)),
        # dddd4: two scales in a cell; task 1 has another scale in condition 1; task 2 states it in one of two rows
        row("dddd4", person=1, text="How cold? " + SEVEN),
        row("dddd4", person=2, response=1, text="How cold? " + YES_NO),
        row("dddd4", person=3, task=1, text="How deep? " + SEVEN),
        row("dddd4", person=4, task=1, response=1, condition=1, text="How deep? " + YES_NO),
        row("dddd4", person=5, task=2, text="How far? " + SEVEN),
        row("dddd4", person=6, task=2, response=40, text=DOLLARS),
        # eeee5: a line twice, and people who share a profile, with one response and with another
        *[row("eeee5", person=1, response=6)] * 2,
        row("eeee5", person=2, response=3, demographic={"age": 70}),
        row("eeee5", person=3, response=3, demographic={"age": 70}),
        row("eeee5", person=4, response=3, demographic={"age": 71}),
        row("eeee5", person=5, response=2, demographic={"age": 71}),
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return inspect_file(write_rows(tmp_path_factory.mktemp("planted") / "rows.jsonl", planted()))


def inspect_rows(tmp_path, rows, **options):
    return inspect_file(write_rows(tmp_path / "rows.jsonl", rows), **options)


def run(*arguments, cwd=ROOT):
    return run_loaded("inspect_data.py", *arguments, cwd=cwd)


def test_rows_studies_cells_and_people(found):
    record = found.record
    counts = {"rows": 33, "bad_rows": 0, "studies": 5, "conditions": 9, "questions": 9, "cells": 13, "participants": 28}
    assert record["file"] == {"path": record["file"]["path"], **counts}
    first = {"study_id": "aaaa1", "rows": 7, "conditions": 3, "questions": 1, "cells": 3, "participants": 7}
    assert record["studies"][0] == first and [study["rows"] for study in record["studies"]] == [7, 7, 7, 6, 6]
    sizes = record["cells"]["sizes"]
    assert (sizes["count"], sizes["min"], sizes["max"]) == (13, 1, 6)
    # aaaa1/2, bbbb2/1, cccc3/0/1, dddd4/0/1 and dddd4/1/1 hold one answer, aaaa1/1 equal ones
    judged = {"one_answer": 5, "judgeable": 7, "judgeable_rows": 33 - 5 - 2}
    assert record["cells"] == {"sizes": sizes, **judged}


def test_scales_their_wording_and_rows_that_are_not_on_one(found):
    assert found.record["scales"] == [
        {"scale": "1 to 7", "form": RANGE, "rows": 7 + 7 + 1 + 3 + 6, "studies": 5},
        {"scale": "1, 2", "form": NAMED, "rows": 3 + 2, "studies": 2},
        {"scale": None, "form": OPEN, "rows": 3 + 1, "studies": 2},
    ]
    off = {"without_scale": 3, "outside_scale": 3, "answers_outside": {8: 2, 99999: 1}}
    none = {"answers_outside": {}, "missing_answers": {}, "far_answers": {}}
    assert found.record["off_scale"] == [
        {"study_id": "cccc3", "first_line": 15, **none, **off},
        {"study_id": "dddd4", "first_line": 27, "without_scale": 1, "outside_scale": 0, **none},
    ]
    # dddd4: task 0 states two in one cell, task 1 another one in condition 1
    differing = {"cells_with_several_scales": 1, "questions_differing_between_conditions": 1}
    assert found.record["differing_scales"] == differing


def test_missing_answers_and_those_far_from_the_rest_are_shown(tmp_path):
    text = "Only return 1 for 'Yes', 2 for 'No', 98 for '{}' or 99 for 'Refused', nothing else."
    told = {"Don't know": [1, 1, 98, 99, 99], "Both": [1, 2, 98, 99]}
    rows = [
        row(study, person=i, response=answer, text=text.format(label))
        for study, (label, answers) in zip(("aaaa1", "bbbb2"), told.items(), strict=True)
        for i, answer in enumerate(answers, 1)
    ]
    record = inspect_rows(tmp_path, rows).record
    assert [one["scale"] for one in record["scales"]] == ["1, 2", "1, 2, 98"]
    assert [one["missing_answers"] for one in record["off_scale"]] == [{99: 2, 98: 1}, {99: 1}]
    assert [(one["far_answers"], one["outside_scale"]) for one in record["off_scale"]] == [({}, 0), ({98: 1}, 0)]
    assert record["cells"]["judgeable"] == 1 and record["cells"]["judgeable_rows"] == 3


def test_an_answer_in_a_gap_of_its_scale_is_outside_and_one_of_a_hundred_digits_does_no_harm(tmp_path):
    text = "Only return 1 for 'Yes', 2 for 'No', or 9 for 'Other', nothing else."
    rows = [row(person=i, response=i, text=text) for i in (1, 2, 5, 9)]
    record = inspect_rows(tmp_path, [*rows, row("bbbb2", response=10**100)]).record
    assert [one["answers_outside"] for one in record["off_scale"]] == [{5: 1}, {1e100: 1}]
    assert [one["scale"] for one in record["scales"]] == ["1, 2, 9", "1 to 7"]


def test_repeated_questions_and_duplicates(found):
    assert found.record["repeated"] == {
        "rows_without_participant": 0,
        "groups": 4,  # three people of bbbb2, and the line of eeee5 that is there twice
        "rows": 2 + 3 + 2 + 2,
        "studies": 2,
        "groups_other_stimuli": 1,
    }
    prompts = Counter(one["prompt"] for one in planted())
    shared = sum(rows for rows in prompts.values() if rows > 1)
    assert found.record["duplicates"] == {"rows_like_an_earlier_one": 1, "rows_with_shared_prompts": shared}


def test_demographics_and_lengths(found):
    age, gender, income = found.record["demographics"]
    assert (age["field"], age["known"], age["groups"]) == ("age", 33, 2)
    assert age["common"] == {"30-44": 29, "65+": 4}, "in groups, as in the results"
    assert (gender["known"], gender["groups"], gender["common"]) == (29, 1, {"Female": 29})
    assert (income["field"], income["known"], income["groups"], income["common"]) == ("income", 0, 0, {})
    lengths = [len(one["prompt"]) for one in planted()]
    spread = found.record["lengths"]["characters"]
    for name, part in {"min": 0, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95, "p99": 0.99, "max": 1}.items():
        assert spread[name] == np.quantile(lengths, part, method="inverted_cdf")
    assert found.record["lengths"]["tokens"] is None and "tokens                  –" in inspection_text(found)


def test_rows_without_a_participant_in_the_other_layout_beside_rows_with_one(tmp_path):
    unnamed = [instruction_row(row(condition=i)) for i in range(3)]
    for one in unnamed:
        del one["participant"], one["sample_id"]
    record = inspect_rows(tmp_path, [*unnamed, row(person=4), row(person=4, condition=1)]).record
    counts = {"studies": 1, "conditions": 3, "questions": 2, "cells": 5, "participants": 1}
    assert record["file"].items() >= counts.items() and record["studies"][0]["participants"] == 1
    assert record["repeated"]["rows_without_participant"] == 3
    assert record["repeated"]["groups"] == 1, "unnamed people are no one person"
    assert {one["field"] for one in record["demographics"]} == {"age", "gender", "income"}


def test_tokens_are_those_of_a_training_row(tmp_path):
    from tiny import tiny_tokenizer

    from socrates.config import PromptSettings
    from socrates.data.encode import PromptEncoder
    from socrates.model.chat import answer_token_ids, prompt_token_ids

    tokenizer = tiny_tokenizer()
    path = write_rows(tmp_path / "rows.jsonl", [*made_rows(studies=2, words=9), row(response=1234, text=DOLLARS)])
    prompts = [(answer.prompt, answer.response) for answer in read_answers(path)]
    settings = PromptSettings(system_message="Answer.")
    ids = prompt_token_ids(tokenizer, [prompt for prompt, _ in prompts], settings)
    lengths = [len(x) + len(answer_token_ids(tokenizer, y)) + 1 for x, (_, y) in zip(ids, prompts, strict=True)]
    limit = sorted(lengths)[len(lengths) // 2]
    found = inspect_file(path, PromptEncoder(tokenizer, settings), limit)
    too_long = sum(length > limit for length in lengths)
    assert found.lengths.tolist() == lengths
    assert found.record["lengths"]["longer_than_max_length"] == too_long > 0
    assert f"longer than max length  {too_long}\n" in inspection_text(found)


def test_bad_rows_are_named_and_the_others_inspected(tmp_path):
    emoji = json.dumps(row(demographic={"note": "\N{GRINNING FACE}"})).encode()  # as \ud83d\ude00
    bad = [rb'{"\u009b": 1, "\u009b": 2}', b"[1]", b"\xff\xfe", json.dumps(row(response="four")).encode()]
    bad += [json.dumps(row(demographic={"age": {"nested": None}})).encode(), emoji.replace(rb"\ude00", b"")]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([emoji, *bad * 5, json.dumps(row(person=2)).encode()[:90]]))
    found = inspect_file(path)
    assert (found.record["file"]["rows"], found.record["file"]["bad_rows"]) == (1, 31)
    assert found.record["demographics"][0]["common"] == {"\N{GRINNING FACE}": 1}
    first = found.record["bad_rows"]
    assert [bad["line"] for bad in first] == [*range(2, 22)]
    wanted = ('"\x9b" stands there twice', "a JSON object", "not UTF-8", '"response" must be', '"age" must be a text')
    for bad, expected in zip(first, (*wanted, "half a character"), strict=False):
        assert expected in bad["reason"]
    result = run(path, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["file"]["bad_rows"] == 31
    assert f'31 bad rows; the first: {path}, line 2: cannot be read as JSON: the key "\\x9b"' in result.stderr
    assert re.search(r"\n +21  \S", inspection_text(found))


def test_what_cannot_be_inspected(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "bad.jsonl").write_text("hello\n{}\n")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    for name, reason in (
        ("none.jsonl", "no such data file"),
        (".", r"is a folder; name the .jsonl file in it"),
        ("empty.jsonl", "holds no rows"),
        ("bad.jsonl", "none of its 2 rows can be used; line 1: not JSON"),
        ("rows.parquet", r"prepare_data.py --source"),
    ):
        with pytest.raises(SocratesError, match=reason):
            inspect_file(tmp_path / name)
    for arguments, reason in (([tmp_path], "is a folder"), ([], "required: FILE")):
        result = run(*arguments)
        assert (result.returncode, result.stdout) == (2, "") and reason in result.stderr


def test_the_text_is_aligned_and_long_tables_are_cut(found, tmp_path):
    text = inspection_text(found)
    assert re.search(r"\n  cccc3 +15 +3 +3  8: 2, 99999: 1 +none +none\n", text)
    heads, first = re.search(r"\n( +study id +rows .*)\n(  aaaa1.*)\n", text).groups()
    assert len(heads) == len(first)
    assert max(map(len, text.splitlines())) <= 110
    many = inspect_rows(tmp_path, made_rows(studies=24, people=2, words=2))
    shown = inspection_text(many)
    assert shown.count("\n  mad") == 20 and "\n  and 4 more\n" in shown
    steering = inspection_text(inspect_rows(tmp_path, [row("\x1b[2Jstudy", demographic={"note": "\x07\n"})]))
    assert "\x1b" not in steering and "\x07" not in steering and "[2Jstudy" in steering


def test_the_command_prints_text_or_json(found):
    path = found.record["file"]["path"]
    text, as_json = run(path), run(path, "--json")
    assert (text.returncode, text.stderr, text.stdout) == (0, "", inspection_text(found) + "\n")
    assert (as_json.returncode, as_json.stderr) == (0, "")
    assert json.loads(as_json.stdout) == json.loads(json.dumps(found.record))


def test_the_page_holds_every_section_and_needs_nothing_else(tmp_path):
    rows = [*planted(), row("<b>&", person=99, demographic={"age": 5, "gender": "<script>alert(1)</script>"})]
    found = inspect_rows(tmp_path, rows)
    text = page(found, datetime(2030, 1, 2, 3, 4, tzinfo=UTC))
    assert "http://" not in text and "https://" not in text and "<script" not in text and "url(" not in text
    pictures = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]+)"', text)
    assert len(pictures) == text.count("<img") == 3 and all(len(alt) > 30 for alt in pictures)
    words = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    for title, table in inspection_tables(found.record).items():
        assert title.capitalize() in words
        assert all(" ".join(cell.split()) in words for line in (table.heads, *table.rows) for cell in line)
    assert "34 rows, 6 studies" in words and "2030-01-02 at 03:04 UTC" in words


def test_a_page_of_one_row_and_of_strange_numbers(tmp_path):
    for rows in (
        [row(demographic={})],
        [row(person=i, demographic={"age": a}) for i, a in enumerate(("1e300", -5, 1.5, 2**70, "nan", "7"))],
        [row(f"研究 {i}", text=f"Only return an integer from 0 to {i}, nothing else.") for i in range(2, 40)],
    ):
        found = inspect_rows(tmp_path, rows)
        text = page(found, datetime(2030, 1, 2, tzinfo=UTC))
        assert text.count("<img") == 3 and json.dumps(found.record, allow_nan=False)


def test_a_page_replaces_only_an_earlier_page(tmp_path):
    data, other = (write_rows(tmp_path / "set" / name, planted()) for name in ("train.jsonl", "val.jsonl"))
    assert run(data, "--report", cwd=tmp_path).stdout.endswith("Report: inspection-set-train.html\n")
    made = tmp_path / "inspection-set-train.html"
    assert made.name == str(default_page(data)) and "train.jsonl" in made.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {made.name, "set"}
    (tmp_path / "mine.html").write_text("<p>my own page</p>")
    result = run(other, "--report", "mine.html", "--json", cwd=tmp_path)
    assert result.returncode == 2 and "did not write this file" in result.stderr and result.stdout == ""
    assert (tmp_path / "mine.html").read_text() == "<p>my own page</p>"
    again = run(data, "--report", made, "--json", cwd=tmp_path)
    assert again.returncode == 0 and json.loads(again.stdout)["file"]["rows"] == 33 and "Report:" in again.stderr


def test_a_share_is_whole_only_where_it_is_exact():
    shares = {(0, 9): "0%", (9, 9): "100%", (1, 10**6): "<0.1%", (99999, 10**5): ">99.9%", (1, 3): "33.3%"}
    assert {parts: share(*parts) for parts in shares} == shares


def test_what_rows_say_themselves_is_counted_and_wins_over_the_text(tmp_path):
    rows = [
        row(response=0.5, scale="0 to 1 by 0.5", weight=0.8),
        row(person=2, response=4, scale="1 to 7", missing=[7]),
        row(person=3, response=7, missing=[7]),
        {**row(task=1, text="Yes or no?"), "scale": {"1": "Yes", "2": "No"}, "counts": {"1": 30, "2": 12, "9": 1}},
    ]
    del rows[3]["response"]
    record = inspect_rows(tmp_path, rows).record
    said = {"scale": 3, "weight": 1, "missing": 2, "counts": 1, "scale that the text contradicts": 1}
    assert record["stated_by_rows"] == said
    given = "given with the row"
    assert {(use["scale"], use["form"]) for use in record["scales"]} == {
        *(("0, 0.5, 1", given), ("1 to 6", given), ("1 to 6", "from A to B"), ("1, 2", given))
    }
    (off,) = record["off_scale"]
    assert off["missing_answers"] == {7: 1} and off["outside_scale"] == 1  # 9 is on no scale
    assert record["cells"]["judgeable"] == 2 and record["cells"]["judgeable_rows"] == 45


def test_what_rows_say_themselves_is_counted(tmp_path):
    own = {"scale": "1, 2, 7, 99", "nominal": True, "missing": [99], "weight": 2.5}
    shares = {"shares": {"1": 0.29, "7": 0.71, "2": 0}, "n": 100, "response": None}
    rows = [{**row(person=person), **own, "response": response} for person, response in ((1, 7), (2, 99))]
    record = inspect_rows(tmp_path, [*rows, {**row(task=1), **shares}]).record
    text = {"scale that the text contradicts": 2}
    assert record["stated_by_rows"] == {"scale": 2, "nominal": 2, "missing": 2, "weight": 2, "counts": 1, **text}
    assert record["cells"]["judgeable_rows"] == 100 and record["file"]["bad_rows"] == 0
    assert record["off_scale"][0]["missing_answers"] == {99: 1} and not record["off_scale"][0]["far_answers"]
