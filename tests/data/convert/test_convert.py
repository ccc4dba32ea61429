"""Other people's tables become rows of the published layout: the right answers, texts and scales, or a refusal."""

import json

import pandas as pd
import pyreadstat
import pytest
from made_tables import FAIR, KINDS, TEXTS, people, statistics_frame

from socrates.data.convert import tables
from socrates.data.convert.columns import Columns
from socrates.data.convert.guess import columns_text, guess_columns
from socrates.data.convert.qualtrics import read_qsf
from socrates.data.convert.rows import Conversion, convert_rows, convert_to
from socrates.data.records import read_answers
from socrates.data.scales import Scale, scale_from_text
from socrates.data.scales.text import parse_scale
from socrates.data.scales.wording import answer_instruction
from socrates.errors import SocratesError
from socrates.schema import validate

TASKS = {FAIR: "fair", "Q1": "fair", "Q2_1": "trust", "Q3_1": "warm"}


def columns_of(value):
    return validate(Columns, value, "columns.json")


def convert(files, columns):
    found = Conversion()
    rows = list(convert_rows(files, columns_of(columns), found))
    assert found.rows == len(rows)
    return rows, found


def written(folder, text, name="table.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return [folder / name]


# --- the twelve kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_gives_every_answer_with_its_question_and_scale(kind, tmp_path):
    made = KINDS[kind](tmp_path)
    assert len(columns_text(made.columns).splitlines()) <= 15
    output = tmp_path / "out.jsonl"
    found = convert_to(made.files, columns_of(made.columns), output)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert not found.bad and found.rows == len(rows)
    asked = {(TASKS.get(row["task_num"], row["task_num"]), row["scale"]) for row in rows} - {("Q2_2", "1 to 5")}
    given = {(int(str(row["participant"]).removeprefix("R_")), row["task_num"]): row["response"] for row in rows}
    true = {(one["id"], name): one[name] for one in people() for name in TEXTS if one[name] is not None}
    refused = {"spss": range(103, 160, 10), "stata": range(103, 160, 10), "qualtrics": [103]}.get(kind, ())
    true |= {(person, "trust"): 99 for person in refused}
    assert asked <= {("fair", "1 to 7"), ("trust", "1 to 5"), ("warm", "0 to 100")}
    assert {(person, TASKS.get(task, task)): value for (person, task), value in given.items() if task != "Q2_2"} == {
        key: value for key, value in true.items() if key[1] in {name for name, _ in asked}
    }
    for row in rows:
        assert str(parse_scale(row["stimuli"])) == row["scale"]
        one = people()[int(str(row["participant"]).removeprefix("R_")) - 100]
        assert row["condition_num"] in (0, 1) and row.get("missing", [99]) == [99]
        assert row["demographic"].get("gender", one["sex"]) == one["sex"]
        assert ("missing" in row) == (kind in ("spss", "stata", "qualtrics") and row["scale"] == "1 to 5")
    assert len(list(read_answers(output))) == len(rows)


def test_the_guess_is_right_for_at_least_eight_kinds(tmp_path):
    right = []
    for kind, make in KINDS.items():
        (tmp_path / kind).mkdir()
        made = make(tmp_path / kind)
        guessed = guess_columns(made.files)
        assert json.loads(columns_text(guessed)) == guessed
        rows = [{**row, "study_id": "made"} for row in convert(made.files, guessed)[0]]
        if rows == convert(made.files, made.columns)[0]:
            right.append(kind)
    assert right == [kind for kind in KINDS if kind not in ("semicolon_wide", "excel")]


def test_the_size_of_a_block_changes_nothing(tmp_path, monkeypatch):
    for kind, make in KINDS.items():
        (tmp_path / kind).mkdir()
        made = make(tmp_path / kind)
        rows, found = convert(made.files, made.columns)
        with monkeypatch.context() as few:
            few.setattr(tables, "_CELLS", 50)
            assert convert(made.files, made.columns) == (rows, found)


# --- what a row says -------------------------------------------------------------------------------------------------


def test_labels_conditions_weights_and_demographics_mean_what_they_say(tmp_path):
    text = "id,arm,sex,wgt,likes\n007,b,f,1.5,Very  MUCH\n8,a,,0,1\n9,b,m,0.5,Don't know\n9,a,m,0.5,\n"
    columns = {
        **{"study": "s", "person": "id", "condition": "arm", "weight": "wgt", "demographics": {"gender": "sex"}},
        "conditions": {"b": "Read “this”.", "a": None},
        "questions": {
            "likes": {"text": "Which?", "scale": {"1": "Not", "2": "Very much", "8": "Don't know"}, "nominal": True}
        },
    }
    rows, found = convert(written(tmp_path, text), columns)
    asked = "“Which?” Only return 1 for “Not” or 2 for “Very much”, nothing else."
    common = {
        "study_id": "s",
        "condition_num": 1,
        "task_num": "likes",
        "scale": "1, 2",
        "nominal": True,
        "missing": [8],
    }
    common["stimuli"] = f"You read “Read “this”.” and then were asked: {asked}"
    assert rows == [
        {**common, "participant": "007", "demographic": {"gender": "f"}, "weight": 1.5, "response": 2},
        {**common, "participant": 9, "demographic": {"gender": "m"}, "weight": 0.5, "response": 8},
    ]
    assert found.conditions == {"a": 0, "b": 1} and found.empty == 2
    assert found.lines()[0] == "Conditions: 0 = a, 1 = b"


def test_a_text_with_its_own_instruction_gets_no_second_one(tmp_path):
    own = "How fair is it? Only return an integer from 1 to 7, nothing else."
    stated = "On a scale from 1 (bad) to 7 (good), how fair is it?"
    columns = {"study": "s", "questions": {"a": own, "b": {"text": own, "scale": "1 to 5"}, "c": stated}}
    rows, _ = convert(written(tmp_path, "a,b,c\n7,5,2\n"), columns)
    assert [row["scale"] for row in rows] == ["1 to 7", "1 to 5", "1 to 7"] and rows[0]["participant"] == 1
    assert rows[0]["stimuli"] == own
    assert rows[1]["stimuli"].endswith("“ Only return an integer from 1 to 5, nothing else.".replace("“", "”"))
    assert rows[2]["stimuli"] == f"You were asked: “{stated}” Only return an integer from 1 to 7, nothing else."


def test_published_counts_are_one_row_a_cell_and_group(tmp_path):
    text = "item,arm,sex,answer,n\nq,0,f,1,30\nq,0,f,2,70\nq,1,f,2,5\nq,0,m,2,1\nq,0,f,2,2\n"
    columns = {
        **{"study": "s", "question": "item", "answer": "answer", "condition": "arm", "count": "n"},
        **{"demographics": {"gender": "sex"}, "questions": {"q": "How?"}, "scale": "1 to 3"},
    }
    rows, _ = convert(written(tmp_path, text), columns)
    assert [(row["condition_num"], row["demographic"]["gender"], row["counts"]) for row in rows] == [
        (0, "f", {"1": 30, "2": 72}),
        (1, "f", {"2": 5}),
        (0, "m", {"2": 1}),
    ]
    assert not any("response" in row or "participant" in row for row in rows)


def test_answers_made_elsewhere_stand_beside_the_human_ones(tmp_path):
    rows, _ = convert(
        written(tmp_path, "q;a;p\nx;Yes;No\nx;2;\n"),
        {
            **{"study": "s", "question": "q", "answer": "a", "prediction": "p"},
            "questions": {"x": {"text": "Do you?", "scale": {"1": "Yes", "2": "No"}}},
        },
    )
    assert [(row["response"], row["prediction"]) for row in rows] == [(1, 2), (2, None)]


def test_what_spss_holds_to_be_missing_is_no_answer_and_a_survey_is_named_beside_its_export(tmp_path):
    frame = statistics_frame()
    frame.loc[0, "fair"], frame.loc[1, "fair"] = -5, 77
    pyreadstat.write_sav(frame, tmp_path / "s.sav", missing_ranges={"fair": [{"lo": -9, "hi": -1}, 77]})
    columns = {"study": "s", "person": "caseid", "questions": {"fair": {"text": FAIR, "scale": "1 to 7"}}}
    rows, found = convert([tmp_path / "s.sav"], columns)
    assert found.empty == 1 and rows[0]["response"] == 77 and rows[0]["missing"] == [77]
    pyreadstat.write_sav(frame, tmp_path / "a.sav", missing_ranges={"age": [{"lo": 60, "hi": 999}], "treatment": [1]})
    columns |= {"demographics": {"age": "age"}}
    rows, _ = convert([tmp_path / "a.sav"], columns)
    assert [row["demographic"].get("age") for row in rows] == [
        one["age"] if one["age"] < 60 else None for one in people()
    ]
    assert convert([tmp_path / "a.sav"], {**columns, "condition": "treatment"})[1].bad == 30
    (tmp_path / "other").mkdir()
    made = KINDS["qualtrics"](tmp_path)
    survey = (tmp_path / "survey.qsf").rename(tmp_path / "other" / "survey.qsf")
    with pytest.raises(SocratesError, match="is no number"):
        convert_to(made.files, columns_of(made.columns), tmp_path / "o")
    assert convert([*made.files, survey], made.columns)[1].bad == 0


def test_labels_that_contradict_those_of_the_file_are_refused_and_codes_that_are_texts_read_by_them(tmp_path):
    scale = {"0": "Agree", "1": "Disagree"}
    columns = {"study": "s", "questions": {"q": {"text": "?", "scale": scale}}}
    for values, labels in (([1.0, 2], {1: "Agree", 2: "Disagree"}), (["a", "d"], {"a": "Agree", "d": "Disagree"})):
        frame = pd.DataFrame({"q": values})
        pyreadstat.write_sav(frame, tmp_path / "s.sav", variable_value_labels={"q": labels})
        if values[0] == "a":
            assert [row["response"] for row in convert([tmp_path / "s.sav"], columns)[0]] == [0, 1]
        else:
            with pytest.raises(SocratesError, match=r'"Agree" is 0 in columns\.json and 1 in the file'):
                convert([tmp_path / "s.sav"], columns)


def test_a_survey_file_says_what_it_can_of_each_column(tmp_path):
    slider = {"QuestionText": "Rate", "QuestionType": "Slider", "Choices": {"1": {"Display": "a"}}}
    several = {"QuestionText": "Which?", "QuestionType": "MC", "Selector": "MAVR", "Choices": {"1": {"Display": "Car"}}}
    asked = {
        "QID1": {**slider, "Configuration": {"CSSliderMin": 0, "CSSliderMax": 1, "NumDecimals": "1"}},
        "QID2": {**slider, "Configuration": {"StarCount": 5}},
        "QID3": several,
        "QID4": {**several, "Selector": "SAVR", "Choices": {"1": {"Display": "<img>"}, "2": {"Display": "Bus"}}},
    }
    survey = {"SurveyElements": [{"Element": "SQ", "PrimaryAttribute": q, "Payload": p} for q, p in asked.items()]}
    (tmp_path / "s.qsf").write_text(json.dumps(survey), encoding="utf-8")
    ids = {"rate": "QID1_1", "stars": "QID2_1", "which": "QID3", "loop": "2_QID4", "id": "_recordId"}
    assert read_qsf(tmp_path / "s.qsf", {name: f'{{"ImportId":"{found}"}}' for name, found in ids.items()}) == {
        "rate": {"text": "Rate a", "scale": scale_from_text("0 to 1 by 0.1")},
        "which": {"text": "Which?", "labels": {}},
        "loop": {"text": "Which?", "labels": {1: "choice 1", 2: "Bus"}},
    }


@pytest.mark.parametrize(
    ("values", "labels", "nominal", "asked"),
    [
        ((0, 0.5, 1), {}, False, "a number from 0 to 1 in steps of 0.5"),
        ((0, 50, 100), {0: "none"}, False, "an integer from 0 to 100 in steps of 50, where 0 means none"),
        ((0, 10), {}, False, "0 or 10"),
        ((1, 2, 8), {1: "a", 8: "c"}, False, "1, 2 or 8, where 1 means a and 8 means c"),
        ((1, 2, 3), {1: "a", 2: "b", 3: "c", 99: "Refused"}, True, "1 for “a”; 2 for “b”; 3 for “c”"),
    ],
)
def test_an_instruction_states_the_very_answers(values, labels, nominal, asked):
    assert answer_instruction(Scale(values), labels, nominal=nominal) == f"Only return {asked}, nothing else."


# --- what is refused -------------------------------------------------------------------------------------------------

ONE = {"study": "s", "questions": {"q": {"text": "How?", "scale": "1 to 7"}}}
REFUSED = {
    "words": (
        "q\nGood\nBad\nGood\n",
        {**ONE, "questions": {"q": "How?"}},
        ['"1": "Good"', 'of "Good", "Bad"', "3 cannot"],
    ),
    "a number of two meanings": ('q\n3\n\n"1,200"\n', ONE, ["table.csv, row 3", '"q": "1,200" is no number']),
    "a half": ('q\n"2,5"\n', ONE, ["row 2", "2.5 is no whole number"]),
    "no label": (
        "q\nNo\n",
        {**ONE, "scale": {"1": "Yes", "2": "Never"}, "questions": {"q": "How?"}},
        ["none of its labels"],
    ),
    "a column too many": ("q,r\n1,2\n1,2,3\n", ONE, ["line 3: has 3 fields and the header 2"]),
    "an open quote": ('q,r\n1,"2\n1,2\n', ONE, ["cannot be read as csv", "unexpected end"]),
    "two columns of one name": ("q,q\n1,2\n", ONE, ['several columns are named "q"']),
    "no answers": ("q,r\n,2\n", ONE, ["holds no answer; 1 are empty"]),
    "nothing": ("", ONE, ["table.csv: is empty"]),
    "a wrong column": (
        "Q,r\n1,2\n",
        {**ONE, "weight": "rr"},
        ['"weight": no column "rr"; did', '"questions": no column "q"'],
    ),
    "a wrong condition": (
        "q,c\n1,leter\n",
        {**ONE, "condition": "c", "conditions": {"letter": "x"}},
        ['did you mean "letter"'],
    ),
    "no condition": ("q,c\n1,\n", {**ONE, "condition": "c"}, ['"c": is empty']),
    "kinds of conditions": (
        "q,c\n1,a\n1,2\n",
        {**ONE, "condition": "c"},
        ["row 3", "has numbers and texts, such as 2"],
    ),
    "a weight": ("q,w\n1,-1\n", {**ONE, "weight": "w"}, ['"w": must be a number above 0, not -1']),
    "no text": ("q\n1\n", {**ONE, "questions": ["q"]}, ['question "q" has no text']),
    "a thousand, or one": ("q\n1.000\n", {**ONE, "scale": "0 to 5000", "questions": {"q": "?"}}, ["may be 1 or 1000"]),
    "several answers": ('q;r\n"1,2";1\n', ONE, ['"1,2": 1.2 is no whole number']),
    "a label that is another code": (
        "q\n1\n",
        {**ONE, "scale": {"1": "0", "2": "1", "3": "2+"}, "questions": {"q": "?"}},
        ["1 may be an answer, or the label of 2"],
    ),
    "a label of two answers": (
        "q\nSame\n",
        {**ONE, "scale": {"1": "same", "2": "Same"}, "questions": {"q": "?"}},
        ["no num"],
    ),
}


@pytest.mark.parametrize(("text", "columns", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_named_and_nothing_is_written(text, columns, said, tmp_path):
    with pytest.raises(SocratesError) as refused:
        convert_to(written(tmp_path, text), columns_of(columns), tmp_path / "out.jsonl")
    assert all(part in str(refused.value) for part in said), refused.value
    assert not (tmp_path / "out.jsonl").exists()


def test_some_bad_answers_may_be_left_out_and_are_counted(tmp_path):
    found = convert_to(written(tmp_path, "q\n1\nx\n9\n"), columns_of(ONE), tmp_path / "out.jsonl", max_bad_rows=1)
    assert (found.rows, found.bad) == (2, 1)


def test_numbers_as_other_programs_write_them_mean_the_same(tmp_path):
    text = 'id,"the\n q",w,c,,\n1.0,5.00,.5,1.0,,\n2.0,#NULL!,1,0.0,,\n3.0,99,1,0.0,,\n'
    columns = {"study": "s", "person": "id", "weight": "w", "condition": "c", "scale": "1 to 7"}
    columns["questions"] = {"the q": "How?"}
    rows, found = convert(written(tmp_path, text), columns)
    given = [(row["participant"], row["response"], row["weight"], row["condition_num"]) for row in rows]
    assert given == [(1, 5, 0.5, 1), (3, 99, 1, 0)] and found.empty == 1
    assert found.lines()[-1].endswith("the q: 99")
    records = [{"id": 1.5, "c": True, "q": 0.30000001192092896}, {"id": 2, "c": False, "q": True}]
    columns = {
        "study": "s",
        "person": "id",
        "condition": "c",
        "questions": {"q": {"text": "?", "scale": "0 to 1 by 0.1"}},
    }
    rows, _ = convert(written(tmp_path, json.dumps(records), "t.json"), columns)
    given = [(row["participant"], row["response"], row["condition_num"]) for row in rows]
    assert given == [("1.5", 0.3, 1), (2, 1, 0)] and json.dumps(rows[1]["response"]) == "1"


def test_a_question_of_columns_json_that_no_row_answers_is_told(tmp_path):
    columns = {"study": "s", "question": "q", "answer": "a", "scale": "1 to 7", "questions": {"x": "?", "y": "?"}}
    found = convert(written(tmp_path, "q,a\nx,1\n"), columns)[1]
    assert found.lines() == ["questions of columns.json that no row answers: y"]


def test_an_excel_file_is_refused_for_two_columns_of_one_name(tmp_path):
    pd.DataFrame([["", ""], ["q", "q"], [1, 2]]).to_excel(tmp_path / "t.xlsx", index=False, header=False)
    with pytest.raises(SocratesError, match='several columns are named "q"'):
        convert([tmp_path / "t.xlsx"], ONE)


@pytest.mark.parametrize("text", ["[]", "[{}]", '[{"a": Infinity}]', '{"a": 1}\n[2]'])
def test_json_without_rows_is_refused(text, tmp_path):
    with pytest.raises(SocratesError, match=r"is empty|cannot be read|must be"):
        convert(written(tmp_path, text, "t.json"), ONE)


def test_a_file_of_another_encoding_is_read_as_it_is_told(tmp_path):
    (tmp_path / "t.csv").write_bytes("q\tort\n1\tŁódź\n".encode("utf-16"))
    columns = {**ONE, "demographics": {"location": "ort"}}
    assert convert([tmp_path / "t.csv"], columns)[0][0]["demographic"] == {"location": "Łódź"}
    (tmp_path / "t.csv").write_bytes("q\tort\n1\tŁódź\n".encode("cp1250"))
    assert convert([tmp_path / "t.csv"], {**columns, "encoding": "cp1250"})[0][0]["demographic"] == {"location": "Łódź"}
    with pytest.raises(SocratesError, match="name its encoding in"):
        convert([tmp_path / "t.csv"], {**columns, "encoding": "utf-8"})
    (tmp_path / "t.csv").write_bytes("q,r\n1,2\n".encode("utf-16-le"))
    with pytest.raises(SocratesError, match="name its encoding in"):
        convert([tmp_path / "t.csv"], ONE)


@pytest.mark.parametrize("ending", [".sav", ".dta", ".xlsx", ".parquet", ".json", ".xls", ""])
def test_a_file_that_is_not_what_its_name_says_is_refused(ending, tmp_path):
    with pytest.raises(SocratesError, match=r"cannot be read as|must end in one of .*\.csv"):
        convert(written(tmp_path, "oops", f"table{ending}"), ONE)


def test_all_problems_of_a_columns_file_are_told_at_once():
    wrong = {
        **{"study": 3, "persn": "id", "demographics": "age", "scale": "1-7"},
        "questions": {"a": {"scale": {"x": "y"}, "nominal": 1}, "b": {"missing": "99"}},
    }
    with pytest.raises(SocratesError) as refused:
        columns_of(wrong)
    for part in (
        '"persn": unknown key; did you mean "person"',
        '"scale": must name the valid answers ("1 to 7"',
        '"questions.a.scale"',
    ):
        assert part in str(refused.value)
    for part in (
        '"questions.a.nominal"',
        '"questions.b.missing": must be a list',
        '"demographics": must be',
        '"study"',
    ):
        assert part in str(refused.value)
    for value, said in {"question": 'needs "answer"', "answer": 'takes "question"'}.items():
        with pytest.raises(SocratesError, match=said):
            columns_of({"study": "s", value: "x"})
