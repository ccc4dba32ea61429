"""The valid answers found in a question's text: made-up texts, 2,780 real rows, and properties."""

import hashlib
import json
import re
import time
from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import SAMPLE, needs_sample

from socrates.data.records import read_answers, render_prompt
from socrates.data.scales import MAX_VALUES, Scale, scale_from_text
from socrates.data.scales.missing import far_answers
from socrates.data.scales.reasons import DECIMALS, OPEN, SEVERAL
from socrates.data.scales.text import IN_QUESTION, NAMED, OPTIONS, RANGE, parse_scale, question_text, read_scale

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "scale_texts.jsonl"
PERSONA = {"age": 34, "income": "40-49K", "location": "1 to 5 Main St. No. 3", "household_size": "2 (1 = adult)"}


def values_of(text):
    scale = parse_scale(text)
    return None if scale is None else scale.values


# --- the scale itself ------------------------------------------------------------------------------------------


def test_a_scale_has_values_in_ascending_order_and_serves_as_a_key():
    for values in ((), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="scale"):
            Scale(values)
    scale = Scale((-1, 0, 8))
    assert [value for value in range(-3, 10) if value in scale] == [-1, 0, 8]
    assert {scale: "a"}[Scale((-1, 0, 8))] == "a" and scale != Scale((-1, 0, 1, 8))


@given(st.sets(st.integers(-30, 30) | st.integers(-9, 9), min_size=1).map(lambda values: tuple(sorted(values))))
def test_a_scale_is_read_from_its_text(values):
    assert scale_from_text(str(Scale(values))) == Scale(values)
    assert (str(Scale((1, 2, 3, 4))), str(Scale((-3, -2, -1, 1, 8)))) == ("1 to 4", "-3 to -1, 1, 8")


# --- made-up texts ---------------------------------------------------------------------------------------------

CASES = [json.loads(line) for line in FIXTURE.read_text(encoding="utf-8").splitlines()]


def expected(case):
    values = case["values"]
    if isinstance(values, dict):
        return tuple(range(values["from"], values["to"] + 1))
    return values and tuple(values)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['form']}" for i, case in enumerate(CASES, start=1)])
def test_made_up_text(case):
    text, values = case["text"], expected(case)
    assert values_of(text) == values, case["why"]
    assert read_scale(text)[2] == set(case.get("missing", [])), case["why"]
    assert values_of(render_prompt(PERSONA, text)) == values, "the persona in front changed it"
    assert values_of(text.replace(" ", "\n")) == values, "line breaks in the place of spaces changed it"
    assert values_of(question_text(text)) == values, "the question's text lacks a part that states the scale"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (RANGE, "How warm, on a scale from 1 (cold) to 5 (hot)? Only return an integer from 1 to 5, nothing else."),
        (RANGE, "How fair was it? Only return an integer from 1 to 5, or 8 if you don't know, nothing else."),
        (NAMED, "Is it? Only return 1 for “Yes” or 2 for “No”, nothing else."),
        (NAMED, "How soft is it? Only return an integer where 0 = Hard, 50 = Neither, and 100 = Soft."),
        (OPTIONS, "Is it? Only return 1, 2 or 3, nothing else."),
        (RANGE + IN_QUESTION, "Rate the lake from 1 to 10. Only return an integer, nothing else."),
        (NAMED + IN_QUESTION, "Is it warm? 1 = Yes, 2 = No. Only return the number, nothing else."),
    ],
)
def test_the_form_in_which_a_scale_is_stated(form, text):
    scale, found, _ = read_scale(text)
    assert found == form and scale is not None


@pytest.mark.parametrize(
    ("straight", "curly"), [('"', "“"), ('"', "”"), ("'", "‘"), ("'", "’"), ("-", "–"), ("-", "\N{MINUS SIGN}")]
)
def test_typographic_variants_of_the_made_up_texts(straight, curly):
    changed = 0
    for case in CASES:
        changed += straight in case["text"]
        assert values_of(case["text"].replace(straight, curly)) == expected(case), case["text"]
        assert values_of(case["text"].replace(curly, straight)) == expected(case), case["text"]
    assert changed >= 4


@pytest.mark.parametrize(
    ("scale", "far"),
    [
        ((1, 2, 3, 4, 5, 98, 99), {98, 99}),
        ((-99, 0, 1, 2), {-99}),
        ((1, 2, 3, 4, 5, 8), set()),
        ((1, 5), set()),
        (tuple(range(MAX_VALUES)), set()),
        (None, set()),
    ],
)
def test_answers_far_from_the_rest_of_their_scale(scale, far):
    assert far_answers(scale) == far


def test_the_widest_scale_is_enumerated_and_a_wider_one_is_open():
    assert len(values_of(f"How many? Only return an integer from 1 to {MAX_VALUES}.")) == MAX_VALUES
    assert parse_scale(f"How many? Only return an integer from 0 to {MAX_VALUES}.") is None


# --- other people's texts -----------------------------------------------------------------------------------------

OTHERS = [json.loads(line) for line in FIXTURE.with_name("scale_texts_of_others.jsonl").read_text("utf-8").splitlines()]


def values_in(shown):
    parts = [re.fullmatch(r"(-?\d+)(?: to (-?\d+))?(?: by (\d+))?", part).groups() for part in shown.split(", ")]
    return tuple(value for a, b, step in parts for value in range(int(a), int(b or a) + 1, int(step or 1)))


@pytest.mark.parametrize("case", OTHERS, ids=[f"{case['id']}-{case['kind']}" for case in OTHERS])
def test_other_peoples_texts_give_no_wrong_scale_and_a_reason_for_none(case):
    scale, form, missing = read_scale(case["text"])
    if case["expected"] is None:
        assert (scale, form) == (None, case["reason"])
    elif scale is not None:
        assert scale.values == values_in(case["expected"]) and missing == set(case.get("missing", []))


def test_most_scales_of_other_peoples_texts_are_read():
    stated = [case for case in OTHERS if case["expected"]]
    assert sum(parse_scale(case["text"]) is not None for case in stated) > 0.9 * len(stated) > 70


@pytest.mark.parametrize(
    ("text", "values", "form"),
    [
        ("How sure are you? Only return a number from 0 to 1.", None, DECIMALS),
        ("How sure are you? Only return a number from 0 to 100, not a decimal.", range(101), RANGE),
        ("Is it so? Only return a number from 0 to 1, where 0 = No and 1 = Yes.", range(2), RANGE),
        ("How much? Only return an integer from 0 to 100 in steps of 25.", range(0, 101, 25), RANGE),
        ("How much? Only return an integer from 0 to 100 in steps of 30.", None, OPEN),
        ("Which? Choose 2-4 of them: 1 = car, 2 = bus, 3 = tram, 4 = boat.", None, SEVERAL),
        ("How many drinks? Only return 0, 1, 2 or 3+.", range(4), OPTIONS),
        ("How much would you pay?\n1. Tea $2\n2. Cake $3\nOnly return an integer representing dollars.", None, OPEN),
        ("How much is it worth? Enter a whole number from 0 to 9,999,999.", None, OPEN),
    ],
)
def test_what_a_request_says_of_decimals_steps_and_counts(text, values, form):
    scale, found, _ = read_scale(text)
    assert ((scale and scale.values), found) == (values and tuple(values), form)


# --- the frames of SocSci210, reworded ---------------------------------------------------------------------------

STIMULI = (
    "You toured a hall that was built in 1962 for $4.5 million; 3 to 5 of its 40 rooms are open.",
    "Visitors rated it from 0 to 10, where 0 means cold and 10 means warm. Their mean was 6.3, with two decimals 6.31.",
    "The plans:\n1. Close it\n2. Sell it for between 200 and 900 dollars\n3. Keep it\nPlease rank them in order.",
    "Guests were told: 'Choose all that apply: 1 = tea, 2 = cake.' Most chose 2-4 of them, in steps of 5 minutes.",
    'On a form they saw "How happy are you (0-10)?" and multiple answers. Why did they come? Describe it freely.',
)
FRAMES = (
    "{stimulus} {question} {request}",
    "{stimulus}\n\n{question}\n\n{request}",
    "You read “{stimulus}” and then were asked: “{question}” {request}",
    'You read "{stimulus}" and then were asked: "{question} {request}"',
)
QUESTIONS = (
    "How warm is the hall?",
    "In order to rank as fair, should 2 of 3 guests return in steps?",
    "I'd stay there.",
)
REQUESTS = {
    "Only return an integer from 1 to 7, where 1 means Very cold and 7 means Very warm, nothing else.": range(1, 8),
    "Only return an integer from 1 to 4 where 1 = ‘Not once’ and 4 = ‘In 9.5 of 10 cases’.": range(1, 5),
    "Only return an integer from 0 to 90 representing percent likelihood, nothing else.": range(91),
    "Only return an integer from 0 to 1,600 representing units of 100 dollars, nothing else.": range(1601),
    "Only return a number from 1 to 6, nothing else.": range(1, 7),
    "Only return an integer from 0 (Never) to 6 (Always), not a decimal, nothing else.": range(7),
    "Only return an integer from -2 to 2, where -2 = much worse and 2 = much better, nothing else.": range(-2, 3),
    "Only return 1 for “Rooms 3 to 9” or 2 for “All that apply”, nothing else.": (1, 2),
    "Only return 1 for 'In order of size.'; 2 for 'By rank, from 1 to 5.'; 3 for 'No, 2.5 decimals', nothing else.": (
        1,
        2,
        3,
    ),
    "Only return 1 for Yes; 2 for No; 3 for In multiple years, nothing else.": (1, 2, 3),
    "Only return 1 if you would leave at once, up to 5 if you would stay for good.": range(1, 6),
    "Only return an integer representing the monthly cost in dollars, nothing else.": None,
    "Only return an integer representing the hours that you would stay, nothing else.": None,
    "Only return an integer, nothing else.": None,
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_only_the_request_counts_in_the_frames_of_the_data_set(request_):
    values = REQUESTS[request_] and tuple(REQUESTS[request_])
    for stimulus, frame, question in product(STIMULI, FRAMES, QUESTIONS):
        text = frame.format(stimulus=stimulus, question=question, request=request_)
        assert values_of(text) == values, text
        assert values_of(text.translate(str.maketrans("“”‘’", "\"\"''"))) == values, text


# --- real rows -------------------------------------------------------------------------------------------------

# Every answer instruction of the sample, read by a person: its SHA-256 (12 digits) under the answers that it allows.
READ_BY_HAND = {
    (1, 2): "cfa0e92b55c1 2a517473c754 d04ef83f4cbe 29a0cdd23197 291ecf319aa9",
    (1, 2, 3): "76fb53daf967",
    range(1, 5): "c4873b4c4b44 243fd2e948e2 1287dc5b947f a198db0d1996 302b71c1acfd ce54cd30cf25",
    range(1, 6): (
        "5a7a0c29599a 6e668d88d64c d15534de7708 d6a28bfc30a6 f3b08e047e6e 0494d16c4360 0a0780af032f c46dffbfe9de"
    ),
    range(1, 7): "a2e6feb72129 af3a7e3e7cd9",
    range(1, 8): (
        "4adac59d04d7 46aa3dc052e4 478b311d6198 59ae31cf0622 53c21e9c0da2 1103a0a27809 85e7ce3dd55f "
        "3c20bc2fe440 43b7041aeafc 14e054ec96e8 a6d6611e9ef0 e029ffeda02e adecf3d6ed47"
    ),
    range(0, 7): "cac2407d3733",
    range(0, 11): "28ecac4437da 1a5090053abf 4fc4403e5d81 79585692a042",
    range(0, 101): "691fb962b07a a5af4f5de18b 5c454624fef2 3b81d8b9e8cb b4961380850a fc3d3bb323b1",
    range(0, 1201): "26a3bda9d59b",
    range(0, 2001): "a127babec7e7",
    range(0, 2801): "1de92f19729e",
    None: "cbf11ac79c50 616f08ab3dff",
}


def instruction_hash(text):
    text = " ".join(text.split())
    return hashlib.sha256(text[text.rindex("Only return") :].encode()).hexdigest()[:12]


@needs_sample
def test_every_real_row_gets_exactly_the_answers_that_its_instruction_allows():
    oracle = {key: values and tuple(values) for values, keys in READ_BY_HAND.items() for key in keys.split()}
    assert len(oracle) == 51
    seen, rows, open_rows, outside = set(), 0, 0, 0
    for name in ("train.jsonl", "val.jsonl"):
        for answer in read_answers(SAMPLE / name):
            key = instruction_hash(answer.stimuli)
            values = values_of(answer.stimuli)
            assert not read_scale(answer.stimuli)[2]
            assert values == oracle[key], f"{name}, line {answer.line}"
            assert values_of(answer.prompt) == values, f"{name}, line {answer.line}: the persona changed it"
            seen.add(key)
            rows += 1
            open_rows += values is None
            outside += values is not None and answer.response not in values
    assert (rows, open_rows, seen) == (2780, 18, set(oracle))
    assert outside == 0, "measured: in this sample no human answer lies outside the scale of its question"


@needs_sample
def test_the_text_of_the_question_tells_the_tasks_of_a_condition_apart():
    texts, tasks = defaultdict(set), defaultdict(set)
    for answer in read_answers(SAMPLE / "published_layout.jsonl"):
        text = question_text(answer.stimuli)
        assert question_text(answer.prompt) == text, f"line {answer.line}: the persona changed it"
        texts[answer.cell].add(text)
        tasks[answer.cell[:2], text].add(answer.cell.task_num)
    assert len(texts) > 100 and all(len(numbers) == 1 for numbers in tasks.values()), "two tasks share a text"
    several = {cell[::2] for cell, found in texts.items() if len(found) > 1}
    # Task 0 of this study is two questions under one number: why the doctor offered money, why he or she apologized.
    assert several == {("ndhyr", 0)}
    assert {len(found) for cell, found in texts.items() if cell[::2] == ("ndhyr", 0)} == {1, 2}


# --- the text of a question ------------------------------------------------------------------------------------

ASK = "Only return an integer from 1 to 5, nothing else."


@pytest.mark.parametrize(
    ("stimulus", "question"),
    [
        ("You read about a fire. It cost $4,000.", "How sad are you?"),
        ("You saw the U.S. Senate at work.", "How much do you trust the U.S. government?"),
        ("They moved to the U.S.", "How wise was that?"),
        ("He is taller than I.", "How tall are you?"),
        ("Mr. Hill spoke first . . .", "Was Dr. A. J. Poe right about rule No. 3?"),
        ("She said: “Never!” Then she left…", "How “rude” was that, e.g. for a guest?"),
        ("Belief #1: Peace. Belief #2: War.", "On a scale from 1 (bad) to 5 (good), how good is this person?"),
        ("In 2014, 30% of 1,000 people agreed.", "Still thinking of this, do you agree?"),
        ("You saw a lake.", "How deep is it? I would say . . ."),
        ("You saw a lake.", "How deep is it? Options: 1 = flat; 5 = deep."),
        ("You saw a lake.", "How deep is it? Flat (1) to deep (5), with 3 as middle."),
        ("You saw a lake.", "Use a scale from 1 to 5. How deep is it?"),
    ],
)
def test_the_question_is_what_remains_when_the_stimulus_changes(stimulus, question):
    want = f"{question} {ASK}"
    for text in (
        f"{stimulus}. {question} {ASK}",
        f"{question} {ASK}",
        f"Another text stood here. {question}\n{ASK}",
        f"{stimulus}\n\n{question}\n\n{ASK}",
        f"A headline\n \n{question}\n{ASK}",
        f"  {stimulus}\u00a0{question}  {ASK}\n",
        render_prompt(PERSONA, f"{question} {ASK}"),
    ):
        assert question_text(text) == want, text


def test_a_quoted_question_is_whole_and_the_text_before_it_is_left_out():
    question = "They often talk about films. How fair is it that she decides?"
    first = f'You read "A and B are 31. They earn $2,000." and then were asked: "{question} {ASK}"'
    second = f'You read "A and B are 29." Then you were asked: "{question} {ASK}"'
    assert question_text(first) == question_text(second) == f'{question} {ASK}"'
    other = first.replace("films", "weekends")
    assert question_text(other) != question_text(first), "the sentence that tells two questions apart was lost"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (f"You saw a lake and were then asked: how deep is it? {ASK}", f"how deep is it? {ASK}"),
        (f"You saw a lake. Please answer this question: how deep is it? {ASK}", f"how deep is it? {ASK}"),
        (f'You were asked: "How old are you?" You said 30. How deep is it? {ASK}', f"How deep is it? {ASK}"),
        (f"You read “Rain.” and then were asked: “The U.S. should act.” {ASK}", f"The U.S. should act.” {ASK}"),
        (
            "You read a letter. Only return 1 for Yes or 2 for No. Then you were asked: "
            "'Why did she call?Only return 1 for 'A.'; 2 for 'B.', nothing else.",
            "Why did she call?Only return 1 for 'A.'; 2 for 'B.', nothing else.",
        ),
        ("You saw a lake. How deep is it?", "How deep is it?"),
        ("", ""),
    ],
)
def test_what_stands_before_a_question_and_introduces_it_is_left_out(text, question):
    assert question_text(text) == question


# --- properties ------------------------------------------------------------------------------------------------

NASTY = (  # what stimuli hold: none of it may ever become a scale
    "prices rose from 2020 to 2021",
    "the $11-$25 basket",
    "people aged 18 to 24",
    "Others rated it on a scale of 1 to 10.",
    "Earlier you read: 'Only return an integer from 3 to 9.'",
    "1 = yes; 2 = no.",
    "He said “between 4 and 40”",
    "from 10% to 30% of the U.S. public",
    "No. 3 or 4 of them…",
    "Angry (1) to Calm (5).",
    "You were asked: 'How old are you?' ",
    "Only return 1 for A; 2 for B. ",
)
STIMULUS = st.lists(st.sampled_from(NASTY) | st.text(max_size=30), max_size=6).map(" ".join)
PERSONAS = st.dictionaries(
    st.sampled_from(["age", "income", "location", "party_id"]), st.sampled_from(NASTY) | st.integers() | st.none()
)
BOUNDS = st.tuples(st.integers(-2500, 2500), st.integers(1, 400)).map(lambda pair: (pair[0], pair[0] + pair[1]))
FORMS = (
    "How is it? Only return an integer from {a} to {b}, nothing else.",
    "How is it? Only return a number from {a} to {b}, where {a} means 'from 4 to 6' and {b} means \"2 or more\".",
    "How is it? Only return an integer from {a} (Bad, 1 to 2) to {b} (Good: $3-$4), nothing else.",
    "How is it? Only return an integer between {a} and {b}, nothing else.",
    "How is it? Only return an integer from {a:,} to {b:,} representing dollars, nothing else.",
    "How is it? Only return an integer on a scale of {a} to {b}.",
    "How is it? Only return an integer ({a} to {b}).",
    "How is it? Only return an integer, where {a} means Bad and {b} means Good, nothing else.",
    "How is it? Only return {a} if you are sure, up to {b} if you are not.",
    "How is it on a scale from {a} (bad) to {b} (good)? Only return an integer, nothing else.",
    "On a scale of {a} to {b}, how is it? Only return a number.",
    "How is it ({a} = bad, {b} = good)? Only return an integer.",
)


@pytest.mark.parametrize("form", FORMS)
@given(stimulus=STIMULUS, persona=PERSONAS, bounds=BOUNDS)
@settings(max_examples=25, deadline=None)
def test_a_stated_range_is_read_whatever_stands_in_front(form, stimulus, persona, bounds):
    question = form.format(a=bounds[0], b=bounds[1])
    want = tuple(range(bounds[0], bounds[1] + 1))
    if "number" in form and bounds in ((0, 1), (-1, 1)):  # a probability, a correlation
        want = None
    assert values_of(question) == want
    assert values_of(f"{stimulus}. {question}") == want
    assert values_of(render_prompt(persona, f"{stimulus}. {question}")) == want


@given(
    codes=st.lists(st.integers(-9, 999), min_size=2, max_size=8, unique=True),
    labels=st.lists(
        st.sampled_from(["Yes", "18 to 24", "$11-$25", "2 or more", "It’s 3, or 4 for two", "No."]), min_size=8
    ),
    quote=st.sampled_from(["''", '""', "‘’", "“”"]),
    form=st.sampled_from(
        ["{n} for {l}; ", "{n} = {l}, ", "{n} if {l}, or ", "{n} means {l}; ", "{n}: {l}; ", "{n} ({l}); "]
    ),
    stimulus=STIMULUS,
)
@settings(max_examples=200, deadline=None)
def test_listed_codes_are_exactly_the_scale(codes, labels, quote, form, stimulus):
    items = [form.format(n=n, l=quote[0] + label + quote[1]) for n, label in zip(codes, labels, strict=False)]
    text = f"{stimulus}. Which one? Only return {''.join(items).rstrip('; or,')}, nothing else."
    assert values_of(text) == tuple(sorted(codes))


@pytest.mark.parametrize("unit", ["", "dollars", "the monthly cost in dollars", "the number of hours", "percent"])
@given(stimulus=st.lists(st.sampled_from(NASTY), max_size=6).map(" ".join))
@settings(max_examples=40, deadline=None)
def test_a_bare_instruction_and_an_amount_take_no_scale_from_the_stimulus(unit, stimulus):
    what = f" representing {unit}" if unit else ""
    text = f"{stimulus}. So much for that. How many are left? Only return an integer{what}, nothing else."
    assert parse_scale(text) is None


@given(
    st.text()
    | st.lists(st.sampled_from([*NASTY, "Only return ", "an integer ", "from 1 ", "to ", "(", "'"])).map("".join)
)
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_scale_or_none_and_a_question(text):
    scale = parse_scale(text)
    assert scale is None or 2 <= len(scale.values) <= MAX_VALUES
    assert re.sub(r"\s", "", question_text(text)) in re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    "piece",
    [
        "\n1. A",
        "1) A ",
        "1, 2, ",
        "You must 1. A",
        "from 1 to ",
        "1 = 'x ",
        "for 'a ",
        ". A",
        "\n \n",
        "A (1), ",
        "rate between 1 ",
        "1,000,",
        "Only return 'a ",
    ],
)
def test_time_is_linear_in_the_length_of_an_adversarial_text(piece):
    text = piece * (50_000 // len(piece))
    for function, whole in (
        (parse_scale, f"{text}? Only return a number."),
        (parse_scale, f"How? Only return an integer, {text}"),
        (question_text, text),
    ):
        start = time.process_time()
        function(whole)
        assert time.process_time() - start < 2.5, f"{function.__name__} of {whole[:20]}…"
