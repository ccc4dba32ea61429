"""Which tokens carry loss, that training and evaluation read the same text, and that a stale set is never used."""

import json
import multiprocessing
from pathlib import Path

import pytest
from tiny import tiny_tokenizer

from socrates.errors import SocratesError
from socrates.files import sha256_file, write_jsonl
from socrates.prompts import end_of_turn_id, prompt_fingerprint, prompt_texts, prompt_token_ids
from socrates.records import read_answers
from socrates.tokenized import IGNORED, ensure_tokenized, load_tokenized, make_examples, tokenized_fingerprint


def rows(responses=(3, 10, 100, -2)):
    return [
        {
            "study_id": "made0",
            "condition_num": 0,
            "task_num": 0,
            "participant": i,
            "sample_id": i,
            "demographic": {"age": 30 + i},
            "stimuli": f"Question {i}? Only return an integer from -100 to 100, nothing else.",
            "prompt": f"You are person {i}. Question {i}? Only return an integer from -100 to 100, nothing else.",
            "response": response,
        }
        for i, response in enumerate(responses)
    ]


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "train.jsonl"
    write_jsonl(path, rows())
    return path


def tokenize(data_file, tokenizer, max_length=2048, system=None):
    return ensure_tokenized(data_file, sha256_file(data_file), tokenizer, system, max_length)


@pytest.mark.parametrize("digits", [1, 3])
@pytest.mark.parametrize("system", [None, "Answer with a number."])
def test_only_the_answer_and_the_end_of_turn_carry_loss(data_file, digits, system):
    tokenizer = tiny_tokenizer(digits)
    for row, example in zip(rows(), make_examples(read_answers(data_file), tokenizer, system), strict=True):
        supervised = [t for t, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
        assert tokenizer.decode(supervised) == f"{row['response']}<|im_end|>"
        assert supervised == [label for label in example.labels if label != IGNORED]
        assert example.labels[-len(supervised) :] == supervised, "the answer stands at the end"
        before = tokenizer.decode(example.input_ids[: -len(supervised)])
        assert before.endswith("<|im_start|>assistant\n") and row["prompt"] in before
        assert (system or "") in before and before.count("<|im_start|>") == (3 if system else 2)


def test_training_reads_the_same_text_as_evaluation(data_file):
    tokenizer = tiny_tokenizer()
    answers = list(read_answers(data_file))
    examples = make_examples(answers, tokenizer, None)
    asked = prompt_token_ids(tokenizer, [answer.prompt for answer in answers], None)
    for example, prompt in zip(examples, asked, strict=True):
        assert example.input_ids[: len(prompt)] == prompt
        assert example.labels[: len(prompt)] == [IGNORED] * len(prompt)
        assert example.labels[len(prompt)] != IGNORED


def test_one_conversation_tokenized_at_once_gives_the_same_ids(data_file):
    tokenizer = tiny_tokenizer()
    for row, example in zip(rows(), make_examples(read_answers(data_file), tokenizer, None), strict=True):
        messages = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": str(row["response"])}]
        whole = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)[
            "input_ids"
        ]
        assert whole[: len(example.input_ids)] == example.input_ids
        assert tokenizer.decode(whole[len(example.input_ids) :]) == "\n", "what the template adds carries no loss"


def test_a_row_over_the_limit_is_left_out_and_counted_never_cut(tmp_path):
    data_file = tmp_path / "train.jsonl"
    long = rows()[0] | {"prompt": "word " * 500}
    write_jsonl(data_file, [*rows(), long])
    dataset, info = load_tokenized(tokenize(data_file, tiny_tokenizer(), max_length=400))
    assert (len(dataset), info["rows"], info["too_long"]) == (4, 4, 1)
    assert info["tokens"] == sum(map(len, dataset["input_ids"])) and info["longest"] <= 400
    with pytest.raises(SocratesError, match="all 5 rows are longer than max_length = 20"):
        tokenize(data_file, tiny_tokenizer(), max_length=20)
    assert not list(tmp_path.glob(".tokenized-*.tmp")), "nothing half-written stays"


def test_the_stored_set_is_what_was_made(data_file):
    tokenizer = tiny_tokenizer()
    dataset, _ = load_tokenized(tokenize(data_file, tokenizer))
    made = list(make_examples(read_answers(data_file), tokenizer, None))
    assert [row["input_ids"] for row in dataset] == [e.input_ids for e in made]
    assert [row["labels"] for row in dataset] == [e.labels for e in made]


def test_a_set_is_reused_and_anything_that_would_change_it_makes_another(data_file):
    folder = tokenize(data_file, tiny_tokenizer())
    before = (folder / "data.arrow").stat().st_mtime_ns
    assert tokenize(data_file, tiny_tokenizer()) == folder
    assert (folder / "data.arrow").stat().st_mtime_ns == before
    others = {
        tokenize(data_file, tiny_tokenizer(), max_length=1000),
        tokenize(data_file, tiny_tokenizer(), system="Be brief."),
        tokenize(data_file, tiny_tokenizer(3)),
    }
    write_jsonl(data_file, rows((3, 10, 100, -3)))
    others.add(tokenize(data_file, tiny_tokenizer()))
    assert len(others | {folder}) == 5


def test_the_fingerprints_see_the_chat_template_and_the_system_message():
    tokenizer = tiny_tokenizer()
    before = prompt_fingerprint(tokenizer, None), tokenized_fingerprint("d", tokenizer, None, 10)
    assert prompt_fingerprint(tokenizer, "") != before[0]
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "Survey\n" + template
        assert prompt_fingerprint(tokenizer, None) != before[0]
        assert tokenized_fingerprint("d", tokenizer, None, 10) != before[1]
    finally:
        tokenizer.chat_template = template
    assert prompt_fingerprint(tokenizer, None) == before[0]


def _tokenize_in_process(path, queue):
    queue.put(str(tokenize(Path(path), tiny_tokenizer())))


def test_ranks_that_start_together_make_one_set(data_file):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_tokenize_in_process, args=(data_file, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    folders = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(folders) == 1 and len(list(data_file.parent.glob("tokenized-*"))) == 1
    assert json.loads((Path(folders.pop()) / "info.json").read_text())["rows"] == 4


@pytest.mark.parametrize(
    "template, message",
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m['content'] }} {% endfor %}", "right after the prompt|special token"),
        (
            "{% for m in messages %}<|im_start|>{{ m['content'] | trim }}x{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>{% endif %}",
            "special token",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_an_error(template, message):
    tokenizer = tiny_tokenizer()
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = template
        with pytest.raises(SocratesError, match=message):
            prompt_texts(tokenizer, ["a"], None)
            end_of_turn_id(tokenizer)
    finally:
        tokenizer.chat_template = kept
