"""Human answers from both layouts; every bad line names its file, its number and what is wrong with it."""

import json
import os

import pytest
from published import SAMPLE, needs_sample

from socrates.data.records import Cell, cell_order, read_answers, read_jsonl, render_prompt
from socrates.errors import SocratesError

STIMULI = "You saw a lake.\n\nHow deep is it? Only return an integer from 1 to 5, nothing else."
PUBLISHED = {
    "sample_id": 7,
    "participant": 100003,
    "demographic": {"age": 48, "party_id": "Lean Green", "income": None, "ideology": ""},
    "stimuli": STIMULI,
    "prompt": "You are somebody. " + STIMULI,
    "reasoning": "",
    "response": 4,
    "condition_num": 2,
    "task_num": 3,
    "study_id": "made0",
}
INSTRUCTION = {
    "instruction": "Answer as this person would.",
    "input": f"Demographics: Age: 48; Political affiliation: Lean Green\n\nScenario: {STIMULI}",
    "output": "Response: 4",
    "study_id": "made0",
    "condition_num": 2,
}
PERSONA = "You are a survey respondent with the following demographic profile:\n- Age: 48\n- Party Id: Lean Green"
SENTENCE = (
    "Read the question below and answer exactly as this person would. Follow the response instructions precisely."
)


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


def demographics(text):
    return INSTRUCTION | {"input": f"Demographics: {text}\n\nScenario: {STIMULI}"}


@pytest.fixture
def read(tmp_path):
    """The answers of a file that holds these lines (rows, or bytes as they stand)."""

    def read(*lines):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
        return list(read_answers(path))

    return read


# --- the published layout --------------------------------------------------------------------------------------


def test_published_row(read):
    [answer] = read(PUBLISHED)
    assert answer.cell == Cell("made0", 2, 3)
    assert (answer.prompt, answer.stimuli, answer.response) == (PUBLISHED["prompt"], STIMULI, 4)
    assert answer.demographic == PUBLISHED["demographic"]
    names = ("study_id", "condition_num", "task_num", "participant", "sample_id")
    assert answer.keys() == {name: PUBLISHED[name] for name in names} | {"line": 1}


def test_a_missing_prompt_is_rendered_and_missing_stimuli_are_what_it_ends_with(read):
    rendered, bare = read(without(PUBLISHED, "prompt"), without(PUBLISHED, "stimuli"))
    assert (
        rendered.prompt == f"{PERSONA}\n\n{SENTENCE}\n\n{STIMULI}" == render_prompt(PUBLISHED["demographic"], STIMULI)
    )
    assert "nan" not in render_prompt({"age": float("nan")}, STIMULI)
    assert bare.stimuli == bare.prompt == PUBLISHED["prompt"], "no persona of ours before it: nothing is taken away"
    [usual] = read(without(PUBLISHED, "stimuli") | {"prompt": rendered.prompt})
    assert usual.prompt == rendered.prompt and usual.stimuli == STIMULI


def test_people_and_samples_may_be_unnamed_or_named_by_text(read):
    names = ({}, {"participant": "p-1", "sample_id": "s-1"})
    unnamed, named = read(*(without(without(PUBLISHED, "participant"), "sample_id") | name for name in names))
    assert (unnamed.participant, unnamed.sample_id, named.participant, named.sample_id) == (None, None, "p-1", "s-1")


@pytest.mark.parametrize("response", [4.0, 0, -3, 99999, 123456789012345678])
def test_any_whole_number_is_a_response_and_may_be_written_as_a_float(read, response):
    [answer] = read(PUBLISHED | {"response": response, "condition_num": 2.0})
    assert (answer.response, type(answer.response), answer.cell.condition_num) == (response, int, 2)


def test_without_task_num_the_question_tells_tasks_apart_and_the_stimulus_does_not(read):
    row = without(PUBLISHED, "task_num")
    other_stimulus = {"stimuli": STIMULI.replace("lake", "pond")}
    other_question = {"stimuli": STIMULI.replace("deep", "cold")}
    answers = read(row, row | other_stimulus, row | other_question, without(row, "stimuli"), row | {"task_num": None})
    lake, pond, cold, prompt_only, null = (answer.cell.task_num for answer in answers)
    assert isinstance(lake, str) and lake.startswith("q-")
    assert lake == pond == prompt_only == null != cold


# --- the instruction layout ------------------------------------------------------------------------------------


def test_instruction_row_becomes_the_published_one(read):
    published, instruction = read(without(PUBLISHED, "task_num") | {"prompt": None}, INSTRUCTION)
    assert instruction.prompt == f"{PERSONA}\n\n{SENTENCE}\n\n{STIMULI}" == published.prompt
    assert (instruction.stimuli, instruction.response) == (STIMULI, 4)
    assert instruction.cell == published.cell and instruction.cell.condition_num == 2
    assert instruction.demographic == {"age": "48", "party_id": "Lean Green"}


def test_output(read):
    outputs = {"Response: 12": 12, "12": 12, " Response:12\n": 12, "Response: -3": -3, 7: 7}
    answers = read(*(INSTRUCTION | {"output": output} for output in outputs))
    assert [answer.response for answer in answers] == [*outputs.values()]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Location: Paris; Texas; Age: 74", {"location": "Paris; Texas", "age": "74"}),
        ("Employment: Other: gardener; Age: 74", {"employment": "Other: gardener", "age": "74"}),
        ("Education: $11-$25 (a; b); Age: 74", {"education": "$11-$25 (a; b)", "age": "74"}),
        ("Housing ownership: Owned;  Metro status: Metro", {"housing_ownership": "Owned", "metro_status": "Metro"}),
        ("Age: 74; Gender: ; Location: ", {"age": "74", "gender": "", "location": ""}),
        ("", {}),
    ],
)
def test_demographic_values_may_hold_separators_and_empty_ones_do_not_reach_the_prompt(read, text, fields):
    [answer] = read(demographics(text))
    assert answer.demographic == fields and answer.stimuli == STIMULI
    persona = answer.prompt.split("\n\n")[0].splitlines()[1:]
    assert [line.partition(": ")[2] for line in persona] == [value for value in fields.values() if value]


def test_a_scenario_that_tells_of_another_scenario_is_kept_whole(read):
    text = "You read:\n\nScenario: a flood.\n\nHow bad is it? Only return 1 or 2."
    [answer] = read(INSTRUCTION | {"input": f"Demographics: Age: 74\n\nScenario: {text}"})
    assert answer.stimuli == text


@needs_sample
def test_both_layouts_of_400_real_rows_give_the_same_prompt_and_response():
    published = list(read_answers(SAMPLE / "published_layout.jsonl"))
    instruction = list(read_answers(SAMPLE / "val.jsonl"))[: len(published)]
    assert len(published) == len(instruction) == 400
    for one, other in zip(published, instruction, strict=True):
        assert one.prompt == other.prompt == render_prompt(one.demographic, one.stimuli), f"line {one.line}"
        assert (one.response, one.stimuli, one.cell[:2]) == (other.response, other.stimuli, other.cell[:2])


# --- bad input -------------------------------------------------------------------------------------------------

GOOD = json.dumps(PUBLISHED).encode()
BAD_LINES = {
    "not JSON": (b'{"response": 4', "not JSON"),
    "not UTF-8": (GOOD.replace(b"lake", b"l\xe4ke"), "not UTF-8"),
    "an array": (b"[1, 2]", "must be a JSON object"),
    "nested beyond reason": (b"[" * 100_000, "JSON"),
    "a number of 5,000 digits": (b'{"response": ' + b"9" * 5000 + b"}", "JSON"),
    "no response": (without(PUBLISHED, "response"), 'no "response"'),
    "response 3.5": (PUBLISHED | {"response": 3.5}, '"response" must be a whole number, not 3.5'),
    "response NaN": (PUBLISHED | {"response": float("nan")}, "NaN is not a number that JSON allows; where nothing"),
    "half a character in study_id": (PUBLISHED | {"study_id": "\ud800"}, '"study_id" holds half a character'),
    "condition_num of 400 digits": (PUBLISHED | {"condition_num": 10**400}, '"condition_num" must be within ±1e+100'),
    "no study_id": (without(PUBLISHED, "study_id"), '"study_id" must be a text'),
    "task_num true": (PUBLISHED | {"task_num": True}, '"task_num" must be a whole number, not true'),
    "demographic a list": (PUBLISHED | {"demographic": ["Age: 4"]}, '"demographic" must be an object'),
    "no text": (PUBLISHED | {"prompt": None, "stimuli": ""}, 'no "prompt"'),
    "instruction layout, no input": (without(INSTRUCTION, "input"), '"input" must be a text, not null'),
    "input without a scenario": (INSTRUCTION | {"input": "Demographics: Age: 4"}, "Scenario"),
    "input with no field name": (demographics("aged 74"), '"aged 74" in "input" is no demographic field'),
    "output a reasoned answer": (INSTRUCTION | {"output": "I am 74, so 2"}, '"output" must read'),
    "output of 5,000 digits": (INSTRUCTION | {"output": "Response: " + "9" * 5000}, '"output" must read'),
}


@pytest.mark.parametrize(("line", "problem"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_names_file_line_and_problem(read, line, problem):
    with pytest.raises(SocratesError) as caught:
        read(PUBLISHED, b"", line, PUBLISHED)
    message = str(caught.value)
    assert "rows.jsonl, line 3: " in message and problem in message
    assert len(message) < 600 and "\n" not in message, "a message is one short line, not the row"


def test_cells_have_one_order_in_which_none_are_tied():
    cells = [Cell("a", 2, 1), Cell("a", 10, 2), Cell("a", 10, 11), Cell("a", 10, "11"), Cell("b", 1, 1)]
    assert sorted([cells[i] for i in (3, 0, 4, 2, 1)], key=cell_order) == cells
    assert len(set(map(cell_order, cells))) == len(cells)


def test_empty_lines_are_counted_and_others_may_end_as_on_windows_and_hold_any_line_separator_but_the_line_feed(read):
    text = STIMULI + " a\u2028b\u0085c"
    row = json.dumps(PUBLISHED | {"stimuli": text}, ensure_ascii=False).encode() + b"\r"
    answers = read(b"", row, b"  ", b"\t\r", row, b"", b"")
    assert [(answer.line, answer.stimuli) for answer in answers] == [(2, text), (5, text)]


def test_a_file_without_rows_a_missing_one_and_a_folder_are_told_apart(tmp_path, read):
    with pytest.raises(SocratesError, match=r"rows\.jsonl: holds no rows"):
        read(b"\n\n  \n")
    with pytest.raises(SocratesError, match=r"none\.jsonl: no such data file"):
        list(read_answers(tmp_path / "none.jsonl"))
    with pytest.raises(SocratesError, match=r"is a folder; name the \.jsonl file in it"):
        list(read_answers(tmp_path))
    os.mkfifo(tmp_path / "pipe.jsonl")
    for place in (tmp_path / "pipe.jsonl", "/dev/zero"):
        with pytest.raises(SocratesError, match=r"is a device or a pipe, not a file; save it as a file first"):
            list(read_answers(place))


def test_a_byte_order_mark_is_no_part_of_a_row_also_between_files_that_were_joined(read):
    assert [answer.line for answer in read(b"\xef\xbb\xbf" + GOOD, PUBLISHED, b"\xef\xbb\xbf" + GOOD)] == [1, 2, 3]


def test_a_line_that_no_row_has_is_not_read_to_its_end(read, monkeypatch):
    monkeypatch.setattr("socrates.data.records.LONGEST_LINE", len(GOOD) + 1)
    assert len(read(GOOD, GOOD)) == 2
    with pytest.raises(SocratesError, match=r"rows\.jsonl, line 2: has over [0-9]+ bytes, which no row has"):
        read(GOOD, GOOD + b"  ")


def test_rows_are_read_as_a_stream(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + b"\nnot JSON\n")
    assert next(read_jsonl(path)) == (1, PUBLISHED), "the first row must not wait for the rest of the file"
