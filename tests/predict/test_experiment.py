"""An experiment's file beyond texts and questions: designs, screens and answers before, steps, codes, indices."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from processes import ROOT
from tiny import tiny_tokenizer

from socrates.data.scales.text import read_scale
from socrates.errors import SocratesError
from socrates.model.chat import prompt_texts
from socrates.predict.experiment import Experiment, read_experiment
from socrates.predict.prompts import plan_prompts

SEVEN = {"low": 1, "high": 7}
LATE = "The ferry was late."
EXPERIMENT = {
    "title": "Ferry",
    "conditions": {"control": None, "late": LATE},
    "questions": {
        name: {"text": text, "scale": SEVEN}
        for name, text in (("honest", "They are honest."), ("fair", "They are fair."), ("cold", "They are cold."))
    },
    "population": {"size": 4, "gender": {"Male": 0.5, "Female": 0.5}},
}
CROSSED = {
    f"{frame} {source}": {"text": f"{frame}, says the {source}.", "levels": {"frame": frame, "source": source}}
    for frame in ("gain", "loss")
    for source in ("expert", "neighbour")
}
FACTORS = {"frame": ["gain", "loss"], "source": ["expert", "neighbour"]}
TEXTS = {
    "frame": {"gain": "200 are saved", "loss": "400 die"},
    "source": {"expert": "An expert", "neighbour": "A neighbour"},
}
TEMPLATE = {"template": "{source} says: {frame}.", "factors": TEXTS, "conditions": ...}
PEOPLE = pd.DataFrame({"weight": np.ones(3), "age": ["34", "70", "34"]})


def experiment(**changes):
    return {key: value for key, value in (copy.deepcopy(EXPERIMENT) | changes).items() if value is not ...}


def read(folder, **changes):
    (folder / "experiment.json").write_text(json.dumps(experiment(**changes)))
    return read_experiment(folder / "experiment.json")


def scaled(text="How much would you pay?", **scale):
    return {"questions": {"pay": {"text": text, "scale": scale}}}


def late(**condition):
    return {"conditions": {"late": {"text": LATE} | condition}}


def index(*items, **rest):
    return {"indices": {"trust": {"items": items} | rest}}


def crossed(**changed):
    return {"conditions": CROSSED | changed, "factors": FACTORS}


YES_NO = {"text": "Sure?", "scale": {"options": {"1": "Yes", "2": "No"}}}
OTHER = EXPERIMENT["questions"] | {"sure": YES_NO, "wide": {"text": "How?", "scale": {"low": 0, "high": 9}}}
MALFORMED = {
    "a condition of another kind": ({"conditions": {"late": 7}}, '"conditions.late": must be an object, not 7'),
    "a key of a condition": (late(verbatm=True), '"conditions.late.verbatm": unknown key; did you mean "verbatim"?'),
    "a screen of another kind": (late(before=[7]), '"conditions.late.before.0": must be an object, not 7'),
    "an answer to nothing": (late(before=[{"answer": "4"}]), '"conditions.late.before.0.question": missing'),
    "an unknown question": (
        late(questions={"honset": None}),
        '"conditions.late.questions": "honset" is no question; did you mean "honest"?',
    ),
    "a question asked nowhere": (
        late(questions={"fair": None}),
        '"questions.fair": is asked in no condition; leave it',
    ),
    "a condition that asks nothing": (
        late(questions=dict.fromkeys(EXPERIMENT["questions"])),
        '"conditions.late.questions": all are null; leave the condition out',
    ),
    "a wording with another scale": (
        late(questions={"fair": "How fair, on a scale from 1 to 5?"}),
        '"conditions.late.questions.fair": states the scale 1 to 5 itself, and not 1 to 7',
    ),
    "a verbatim text with another scale": (
        late(text="Only return an integer from 1 to 5, nothing else.", verbatim=True),
        '"conditions.late": tells to answer from 1 to 5, and not from 1 to 7',
    ),
    "levels without factors": (late(levels={"frame": "gain"}), '"conditions.late.levels": {"frame": "gain"} names'),
    "no levels": (crossed(other="x"), '"conditions.other.levels": {} names no level of each of {"frame": ["gain"'),
    "an unknown level": (
        crossed(**{"loss expert": {"levels": {"frame": "los", "source": "expert"}}}),
        '"conditions": 0 of them have the levels loss, expert; one is needed',
    ),
    "a crossing twice": (
        crossed(again=CROSSED["gain expert"]),
        '"conditions": 2 of them have the levels gain, expert; one is needed',
    ),
    "one level": ({"factors": {"frame": ["gain"]}}, 'the factor "frame" takes two or more levels, each once, not ["ga'),
    "a template's one level": (
        TEMPLATE | {"template": "{frame}", "factors": {"frame": {"gain": "x"}}},
        'the factor "frame" takes two or more levels, each once, not ["gain"]',
    ),
    "a template that is a list": (
        TEMPLATE | {"template": ["{frame}{source}"]},
        '"template": must be a text that holds',
    ),
    "levels that are no list": ({"factors": {"frame": "gain"}}, '"factors.frame": must be a list, not "gain"'),
    "too many crossings": (
        {"factors": {str(factor): ["a", "b"] for factor in range(80)}},
        '"factors": the factors make 1,208,925,819,614,629,174,706,176 conditions; at most 64 are taken',
    ),
    "a template and conditions": (TEMPLATE | {"conditions": {"a": None}}, 'takes either "conditions", or "template"'),
    "a placeholder that is no factor": (
        TEMPLATE | {"template": "{source}: {farme}"},
        '"template": must be a text that holds {frame} and {source}, not "{source}: {farme}"',
    ),
    "a factor without placeholder": (TEMPLATE | {"template": "{frame}."}, '"template": must be a text that holds {fr'),
    "a template without texts": (TEMPLATE | {"factors": FACTORS}, '"factors": beside "template" takes a text a level'),
    "within of another kind": ({"within": "frame"}, '"within": must be true or a list of factors'),
    "within what is no factor": (
        crossed() | {"within": ["farme"]},
        '"within": "farme" is no factor; did you mean "fra',
    ),
    "within without factors": ({"within": ["frame"]}, '"within": "frame" is no factor; valid: true'),
    "a step that leads beyond": (
        scaled(low=0, high=10, step=3),
        '"questions.pay.scale": "high" - "low" must be a multiple of "step", which is 3',
    ),
    "too many decimals": (scaled(low=0.00001, high=1.00001), "has more than 4 decimals"),
    "no step at all": (scaled(low=0, high=10, step=0), '"questions.pay.scale.step": must be at least 0.0001, not 0'),
    "a label between steps": (
        scaled(low=0, high=100, step=50, labels={"25": "x"}),
        "the label of 25 lies outside 0, 50",
    ),
    "a code on the scale": (scaled(**SEVEN, codes={"7": "don't know"}), "the code 7 lies within 1 to 7; take a number"),
    "a code between steps": (scaled(low=0, high=100, step=50, codes={"99": "?"}), "the code 99 lies within 0, 50, 100"),
    "a code that is an option": (scaled(options={"1": "a", "2": "b"}, codes={"2": "c"}), "the code 2 lies within 1, 2"),
    "a code's label that states others": (
        scaled(**SEVEN, codes={"99": "x”, or 55 for “y"}),
        '"questions.pay": with its answer instruction it reads as the scale',
    ),
    "an index of one": (index("fair"), '"indices.trust.items": must be a list of two or more questions, not ["fair"]'),
    "an unknown item": (index("fair", "hot"), '"indices.trust.items": "hot" is no question; did you mean "honest"?'),
    "an item twice": (
        index("fair", "fair"),
        '"indices.trust": needs a name that is no question\'s, and each of its it',
    ),
    "an index with a question's name": (
        {"indices": {"fair": {"items": ["honest", "cold"]}}},
        '"indices.fair": needs a',
    ),
    "reversed what is no item": (
        index("fair", "honest", reversed=["cold"]),
        '"indices.trust.reversed": "cold" is no i',
    ),
    "items of other scales": (
        {"questions": OTHER} | index("fair", "wide"),
        '"indices.trust.items": "wide" is unlike "fair": items have one scale of numbers, and are asked in the same',
    ),
    "items that are options": ({"questions": OTHER} | index("sure", "fair"), '"indices.trust.items": "sure" is unlike'),
    "items asked elsewhere": (
        {"conditions": {"a": None, "b": {"questions": {"cold": None}}}} | index("fair", "cold"),
        '"indices.trust.items": "cold" is unlike "fair"',
    ),
    "an item on two screens": (
        {"indices": {name: {"items": ["fair", name], "together": True} for name in ("cold", "honest")}},
        '"indices.honest.items": "fair" is on the screen of another index',
    ),
}


@pytest.mark.parametrize(("changes", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_experiment_gets_its_message(tmp_path, changes, message):
    with pytest.raises(SocratesError) as error:
        read(tmp_path, **changes)
    assert message in str(error.value) and str(tmp_path / "experiment.json") in str(error.value)


def test_a_template_makes_each_crossing_once_in_the_order_of_factors(tmp_path):
    made = read(tmp_path, **TEMPLATE | {"template": {"text": TEMPLATE["template"], "verbatim": True}})
    assert [(name, one.text) for name, one in made.conditions.items()] == [
        ("gain, expert", "An expert says: 200 are saved."),
        ("gain, neighbour", "A neighbour says: 200 are saved."),
        ("loss, expert", "An expert says: 400 die."),
        ("loss, neighbour", "A neighbour says: 400 die."),
    ]
    assert made.factors == {"frame": ("gain", "loss"), "source": ("expert", "neighbour")}
    assert all(one.verbatim for one in made.conditions.values())
    recorded = json.loads(json.dumps(made.model_dump(exclude_unset=True)))  # as predict.json has it
    assert Experiment.model_validate(recorded) == made and "template" not in recorded


@pytest.mark.parametrize(
    ("within", "same"), [(False, [0, 1, 2, 3]), (True, [0] * 4), (["source"], [0, 0, 2, 2]), (["frame"], [0, 1, 0, 1])]
)
def test_the_same_people_see_conditions_that_differ_in_what_is_within_alone(tmp_path, within, same):
    conditions = {  # each one's levels in another order
        name: one | {"levels": dict(sorted(one["levels"].items(), reverse=bool(place % 2)))}
        for place, (name, one) in enumerate(CROSSED.items())
    }
    people = read(tmp_path, conditions=conditions, factors=FACTORS, within=within).people_of
    assert np.array_equal(people[:, None] == people, np.equal.outer(same, same))


def test_a_question_is_asked_where_it_is_not_null_and_in_the_words_of_the_place(tmp_path):
    conditions = {"control": {"questions": {"fair": None}}, "late": {"text": LATE, "questions": {"cold": "So cold?"}}}
    found = read(tmp_path, conditions=conditions)
    assert [found.asked_in(name) for name in found.questions] == [(0, 1), (1,), (0, 1)]
    plan = plan_prompts(found, PEOPLE)
    assert len(plan.prompts) == 2 * 5 and plan.profile_of.tolist() == [0, 1, 0]
    for question, asked in (("honest", ["control", "late"]), ("fair", ["late"]), ("cold", ["control", "late"])):
        places = plan.places(question)
        assert places.shape == (2, len(asked))
        for profile, of_profile in enumerate(places):
            told = [plan.keys(place) for place in of_profile]
            assert [one["condition"] for one in told] == asked and {one["question"] for one in told} == {question}
            assert all(one["demographic"] == plan.profiles[profile] for one in told)
    assert "“So cold?”" in plan.prompts[plan.places("cold")[0, 1]][0]
    assert "“They are cold.”" in plan.prompts[plan.places("cold")[0, 0]][0]


ENDS = "where 0 means nothing and 500 means all"


@pytest.mark.parametrize(
    ("scale", "instruction", "answers"),
    [
        ({"low": 0, "high": 1, "labels": {"1": "yes"}}, "an integer from 0 to 1, where 1 means yes", "0, 1"),
        (
            {"low": 0, "high": 500, "step": 50, "labels": {"0": "nothing", "500": "all"}, "codes": {"999": "refused"}},
            f"an integer from 0 to 500 in steps of 50, {ENDS}, or 999 for “refused”",
            "0 to 500 by 50",
        ),
        ({"low": 0, "high": 1, "step": 0.25}, "a number from 0 to 1 in steps of 0.25", "0 to 1 by 0.25"),
        ({"low": 0, "high": 4000000, "step": 1000000}, "an integer from 0 to 4000000 in steps of 1000000", None),
        ({"low": 0.5, "high": 4.5}, "a number from 0.5 to 4.5 in steps of 1", None),
        ({"low": 0, "high": 50, "step": 50, "labels": {"50": "all"}}, "0 or 50, where 50 means all", "0, 50"),
        (
            SEVEN | {"codes": {"98": "other", "99": "don't know"}},
            "an integer from 1 to 7, or 98 for “other” or 99 for “don't know”",
            "1 to 7",
        ),
        (SEVEN | {"labels": {"7": "all"}, "codes": {"0": "other"}}, None, "1 to 7"),
        (
            {"options": {"1": "Red", "2": "Blue", "3": "Green"}, "codes": {"99": "don't know"}},
            "1 for “Red”; 2 for “Blue”; 3 for “Green”, or 99 for “don't know”",
            "1 to 3",
        ),
        (
            {"options": {"1": "Yes", "2": "No"}, "codes": {"-1": "refused"}},
            "1 for “Yes” or 2 for “No”, or -1 for “refused”",
            "1, 2",
        ),
    ],
)
def test_steps_labels_and_codes_are_said_in_plain_words(tmp_path, scale, instruction, answers):
    found = read(tmp_path, **scaled(**scale))
    question = found.questions["pay"]
    assert instruction is None or question.instruction == f"Only return {instruction}, nothing else."
    assert answers is None or str(question.answers) == answers
    assert {*question.valid.values} == {*question.answers.values} | {int(code) for code in scale.get("codes", ())}
    read_as, _, missing = read_scale(found.stimuli("late", "pay"))
    assert read_as is None or {*question.answers.values} <= {*read_as.values} <= {*question.valid.values}
    assert missing <= {*question.codes}
    assert all(valid == question.valid for _, valid in plan_prompts(found, PEOPLE).prompts)
    json.dumps(found.model_dump(exclude_unset=True))


INSTRUCTION = "Only return an integer from 1 to 7, nothing else."
PERSONA = (
    "You are a survey respondent with the following demographic profile:\n- Age: 34\n\nRead the question below and "
    "answer exactly as this person would. Follow the response instructions precisely.\n\n"
)


@pytest.mark.parametrize(
    ("text", "question", "told"),
    [
        (LATE, "How fair?", f"{LATE}\n\nHow fair?\n\n{INSTRUCTION}"),
        (LATE, f"How fair? {INSTRUCTION}", f"{LATE}\n\nHow fair? {INSTRUCTION}"),
        (f"{LATE} {INSTRUCTION}", "How fair?", f"{LATE} {INSTRUCTION}\n\nHow fair?"),
        ("Others rated it on a scale from 1 to 7.", "How\nfair?", None),
        (None, "How fair?", f"How fair?\n\n{INSTRUCTION}"),
    ],
)
def test_verbatim_is_as_it_was_written_and_the_instruction_stands_once(tmp_path, text, question, told):
    found = read(tmp_path, conditions={"a": {"text": text, "verbatim": True, "questions": {"fair": question}}})
    plan = plan_prompts(found, PEOPLE)
    told = told or f"{text}\n\n{question}\n\n{INSTRUCTION}"
    assert plan.prompts[plan.places("fair")[0, 0]][0] == PERSONA + told


def test_what_was_read_and_answered_before_becomes_messages_in_turn(tmp_path):
    before = ["First.", {"question": "How old are you?", "answer": "{age}"}, "Second.", "Third."]
    found = read(tmp_path, conditions={"a": {"text": LATE, "before": before}, "b": {"before": ["First."]}})
    plan = plan_prompts(found, PEOPLE)
    (messages, _), (text, _) = plan.prompts[0], plan.prompts[3]
    asked = f"You read “{LATE}” and then were asked: “They are honest.” {INSTRUCTION}"
    assert [*messages] == [
        {"role": "user", "content": f"{PERSONA}First.\n\nHow old are you?"},
        {"role": "assistant", "content": "34"},
        {"role": "user", "content": f"Second.\n\nThird.\n\n{asked}"},
    ]
    assert text == f"{PERSONA}First.\n\nYou were asked: “They are honest.” {INSTRUCTION}"
    assert plan.prompts[6][0][1]["content"] == "70"

    tokenizer = tiny_tokenizer()
    told = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    (rendered,) = prompt_texts(tokenizer, [messages])
    assert rendered.endswith(f"{told}<|im_start|>assistant\n")
    assert prompt_texts(tokenizer, [text]) == prompt_texts(tokenizer, [[{"role": "user", "content": text}]])

    other = read(tmp_path, conditions={"a": {"text": LATE, "before": [before[0], {**before[1], "answer": "35"}]}})
    assert plan_prompts(other, PEOPLE[:1]).fingerprint != plan_prompts(found, PEOPLE[:1]).fingerprint
    with pytest.raises(SocratesError, match=r'"conditions\.a": needs the field "age" of every persona'):
        plan_prompts(found, PEOPLE, others=pd.DataFrame({"weight": [1.0], "gender": ["Male"]}))


def test_items_on_one_screen_stand_in_an_order_that_the_seed_draws(tmp_path):
    found = read(tmp_path, **index("honest", "fair", "cold", reversed=["cold"], together=True))
    people = pd.DataFrame({"weight": np.ones(60), "age": ["34"] * 60})
    plan = plan_prompts(found, people, 1)
    orders = set()
    for profile in range(len(plan.profiles)):
        places = [place for question in ("fair", "cold") for place in plan.places(question)[profile]]
        told = {plan.prompts[place][0].split("order: ")[1].split(", and then were asked")[0] for place in places}
        assert len(told) == 1  # a person sees one order, whatever is asked
        orders |= told
    assert "“They are cold.”; “They are fair.”; “They are honest.”" in orders
    assert len(orders) == len(plan.profiles) == 6
    assert plan.prompts[plan.places("fair")[0, 1]][0].endswith(f", and then were asked: “They are fair.” {INSTRUCTION}")
    again, other = plan_prompts(found, people, 1), plan_prompts(found, people, 2)
    assert again.fingerprint == plan.fingerprint and not np.array_equal(other.profile_of, plan.profile_of)
    more = plan_prompts(found, people, 1, others=pd.DataFrame({"weight": [1.0, 1.0], "age": ["34", "34"]}))
    assert more.prompts[: len(plan.prompts)] == plan.prompts and np.array_equal(more.profile_of, plan.profile_of)
    assert more.profiles == (*plan.profiles, {"age": "34"}, {"age": "34"})


def test_every_text_of_a_template_takes_the_level_and_every_text_the_persona_s_field(tmp_path):
    template = {
        "text": "{source} says: {frame}.",
        "before": ["Hear {source}!", {"question": "Once you said {age}.", "answer": "{age}"}],
        "questions": {"fair": "Is “{frame}” fair?"},
    }
    found = read(tmp_path, **TEMPLATE | {"template": template})
    plan = plan_prompts(found, PEOPLE[:1])
    (messages, _) = plan.prompts[plan.places("fair")[0, 0]]
    assert [one["content"].removeprefix(PERSONA) for one in messages] == [
        "Hear An expert!\n\nOnce you said 34.",
        "34",
        f"You read “An expert says: 200 are saved.” and then were asked: “Is “200 are saved” fair?” {INSTRUCTION}",
    ]
    found = read(tmp_path, conditions={"a": "You are {agee}."})
    with pytest.raises(
        SocratesError, match=r'"conditions\.a": needs the field "agee" of every persona, .* without \{agee\}'
    ):
        plan_prompts(found, PEOPLE[:1])


def test_a_narrative_stands_after_the_list_of_fields(tmp_path):
    people = pd.DataFrame({"weight": [1.0, 1.0], "age": ["34", None], "narrative": ["A baker.", "A nurse."]})
    plan = plan_prompts(read(tmp_path), people)
    listed, instruction = PERSONA.split("\n\n", 1)
    header = listed.split("\n")[0]
    assert plan.prompts[0][0].startswith(f"{listed}\n\nA baker.\n\n{instruction}")
    assert plan.prompts[6][0].startswith(f"{header}\n\nA nurse.\n\n{instruction}")


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("bus_line", "16bdca0e116313c9ed0737bcc1023319d785c379a2cb146edf493d631a2f9582"),
        ("library_hours", "cf8e4d914f6302fd7ea98f7f92a83dde1518b26db93d60c806e0983ee60bfc3a"),
    ],
)
def test_files_of_before_there_were_designs_give_the_same_prompts(name, fingerprint):
    found = read_experiment(ROOT / "examples" / f"{name}.json")
    assert plan_prompts(found, found.population.personas(ROOT / "examples", 42), 42).fingerprint == fingerprint
