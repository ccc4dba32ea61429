"""Which tokens carry loss, that training and evaluation read the same text, and that a stale set is never used."""

import copy
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
from array import array

import pytest
from processes import in_a_fork
from tiny import tiny_model, tiny_tokenizer

from socrates import files
from socrates.config import PromptSettings
from socrates.data import tokenize as tokenizing
from socrates.data.encode import PromptEncoder
from socrates.data.records import read_answers, render_prompt
from socrates.data.shorten import shorten_prompt
from socrates.data.tokenize import ensure_tokenized
from socrates.data.tokenized import load_tokenized, read_contents, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import remembered_sha256, sha256_file, write_jsonl
from socrates.model.chat import end_of_turn_id, prompt_token_ids
from socrates.rehearsal.base_model import _train_tokenizer


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
    return ensure_tokenized(data_file, tokenizer, PromptSettings(system_message=system), max_length)


def cuts(tokenizer):
    """Whether prompts are cut into lines and words."""
    return PromptEncoder(tokenizer, None)._frame is not None


def examples(data_file, tokenizer, **options):
    dataset, _ = load_tokenized(tokenize(data_file, tokenizer, **options))
    return [(row["input_ids"].tolist(), row["input_ids"][-row["answer_tokens"] :].tolist()) for row in dataset]


@pytest.mark.parametrize("digits", [1, 3])
@pytest.mark.parametrize("system", [None, "Answer with a number."])
def test_only_the_answer_and_the_end_of_turn_carry_loss(data_file, digits, system):
    tokenizer = tiny_tokenizer(digits)
    for row, (ids, supervised) in zip(rows(), examples(data_file, tokenizer, system=system), strict=True):
        assert tokenizer.decode(supervised) == f"{row['response']}<|im_end|>"
        before = tokenizer.decode(ids[: -len(supervised)])
        assert before.endswith("<|im_start|>assistant\n") and row["prompt"] in before
        assert (system or "") in before and before.count("<|im_start|>") == (3 if system else 2)


def test_missing_answers_are_left_out_and_counted(tmp_path):
    text = "Do you? Only return 1 for 'Yes'; 2 for 'No'; 99 for 'Don't know / refused', nothing else."
    given = [row | {"stimuli": text, "prompt": text} for row in rows((1, 99, 2, 99, 77))]
    write_jsonl(tmp_path / "train.jsonl", given)
    dataset, info = load_tokenized(tokenize(tmp_path / "train.jsonl", tiny_tokenizer()))
    assert (len(dataset), info["rows"], info["missing_answers"]) == (3, 3, 2), "77 is none here"


def test_training_reads_the_same_text_as_evaluation(data_file):
    tokenizer = tiny_tokenizer()
    asked = prompt_token_ids(tokenizer, [answer.prompt for answer in read_answers(data_file)], None)
    read = examples(data_file, tokenizer)
    assert [ids for ids, _ in read] == [prompt + answer for prompt, (_, answer) in zip(asked, read, strict=True)]


WHITE = [*" " * 6, *"\n" * 5, *"\r\t\v\f\x1c\x1f\x85\u00a0\u1680\u2003\u2028\u202f\u3000\u200b\ufeff", "\r\n", "\n \n"]
OTHERS = [*"é½²٣Ⅷſß🙂_7$<=>-.…“aBZ\0\u0301\u0338\u1161\u200d\u200f\u202e\u0e48"]
OTHERS += ["e\u0301", "A\u030a", "'s", "'LL", "’s", "12345678901", "<|im_end|>", "<|im_start|>", "<tool>", "<to", "-a"]
OTHERS += ["!!", "日本語", "한국", "ไทย", "Only", "ferry", "👨‍👩‍👧"]


def nasty_texts(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        parts = (rng.choice(WHITE if rng.random() < 0.5 else OTHERS) for _ in range(rng.randrange(1, 50)))
        yield "".join(parts)


def awkward_rows(count=300):
    """Texts in which a cut might fall wrong, and lines that come again."""
    answers = rows([(1, 7, 42, 100, -3, 99999)[number % 6] for number in range(count)])
    for number, (row, text) in enumerate(zip(answers, nasty_texts(count, 3), strict=True)):
        persona = f"You are a survey respondent:\n- Age: {number % 9}\n\n" if number % 2 else ""
        yield row | {"prompt": f"{persona}{text.strip() or 'x'}", "stimuli": "Question? Only return an integer."}


@pytest.mark.slow  # the import of TRL
@pytest.mark.parametrize("kind", ["qwen", "tiny of three digits"])
def test_ids_and_labels_are_those_of_trls_own_preparation(tmp_path, kind):
    """TRL's last line break aside: the template puts it after the end of the turn, and here it carries no loss."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data_file = tmp_path / "train.jsonl"
    write_jsonl(data_file, awkward_rows())
    if kind == "qwen":
        made_up = tmp_path / "made_up.jsonl"
        write_jsonl(made_up, (row for row in awkward_rows(100) if "<|" not in row["prompt"]))
        tokenizer = _train_tokenizer([answer.prompt for answer in read_answers(made_up)])
    else:
        tokenizer = tiny_tokenizer(3)
    assert cuts(tokenizer), "else this would compare nothing of interest"
    turns = [
        {
            "prompt": [{"role": "user", "content": answer.prompt}],
            "completion": [{"role": "assistant", "content": str(answer.response)}],
        }
        for answer in read_answers(data_file)
    ]
    trainer = SFTTrainer(
        model=tiny_model(tokenizer),
        args=SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, max_length=None, report_to="none"),
        train_dataset=Dataset.from_list(turns),
        processing_class=tokenizer,
    )
    after = tokenizer("\n")["input_ids"]
    theirs = [(row["input_ids"], [i for i in row["labels"] if i != -100]) for row in trainer.train_dataset]
    assert [ids[-len(after) :] for ids, _ in theirs] == [after] * len(theirs)
    mine = examples(data_file, tokenizer)
    assert mine == [(ids[: -len(after)], supervised[: -len(after)]) for ids, supervised in theirs]


def test_a_tokenizer_of_which_little_is_known_gets_its_prompts_whole(data_file):
    from tokenizers import pre_tokenizers

    before = examples(data_file, tiny_tokenizer())
    trimming, other = copy.deepcopy(tiny_tokenizer()), copy.deepcopy(tiny_tokenizer())
    trimming.chat_template = trimming.chat_template.replace("message['content']", "message['content'] | trim")
    assert not cuts(trimming) and examples(data_file, trimming) == before, "here there is nothing to trim"
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    assert not cuts(other)


def greedy_tokenizer(digits, normalizer, ignore_merges):
    """As Qwen2's or Llama 3's, trained on text in which all that may be merged is merged."""
    from tokenizers import AddedToken, Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    tiny = tiny_tokenizer(digits)
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, tiny.backend_tokenizer.pre_tokenizer
    tokenizer.decoder = tiny.backend_tokenizer.decoder
    trainer = trainers.BpeTrainer(vocab_size=3000, show_progress=False)
    tokenizer.train_from_iterator(nasty_texts(3000, 1), trainer)
    special = [AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    tokenizer.add_tokens([*special, AddedToken("<tool>", normalized=False), AddedToken("-a", normalized=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=tiny.chat_template)


@pytest.mark.parametrize(("digits", "composed", "ignore_merges"), [(1, True, False), (3, False, True)])
def test_pieces_of_the_nastiest_texts_are_the_whole(digits, composed, ignore_merges):
    from tokenizers import normalizers

    tokenizer = greedy_tokenizer(digits, normalizers.NFC() if composed else None, ignore_merges)
    assert cuts(tokenizer)
    encoder, texts = PromptEncoder(tokenizer, None), list(nasty_texts(3000, 2))
    for text, whole in zip(texts, prompt_token_ids(tokenizer, texts, None), strict=True):
        assert array("i", encoder.encode(text)).tolist() == whole, repr(text)


@pytest.mark.parametrize("content", ["a b", "word", "é-", "\u212b"])
def test_an_added_token_that_may_begin_a_word_or_hold_white_space_forbids_pieces(content):
    """White space before such a token is one match with the space that a piece would begin with."""
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken("<think>", normalized=True)])
    assert cuts(tokenizer)
    tokenizer.add_tokens([AddedToken(content, normalized=True)])
    assert not cuts(tokenizer)


def test_padding_that_an_earlier_call_left_changes_nothing():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    settings = PromptSettings()
    before = tokenized_fingerprint("d", tokenizer, settings, 10), PromptEncoder(tokenizer).encode("a b c")
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer.backend_tokenizer.padding and tokenizer.backend_tokenizer.truncation
    assert (tokenized_fingerprint("d", tokenizer, settings, 10), PromptEncoder(tokenizer).encode("a b c")) == before


STORY = " ".join(f"Word{n} happened." for n in range(200))
QUESTION = "How warm do you feel about it? Only return an integer from 0 to 100, nothing else."


def long_row(story=STORY, **changed):
    row = rows()[0] | {"stimuli": f"{story} {QUESTION}"} | changed
    return row | {"prompt": render_prompt(row["demographic"], row["stimuli"])}


def test_a_row_over_the_limit_loses_the_middle_of_what_was_read_never_its_answer(tmp_path):
    data_file = tmp_path / "train.jsonl"
    tokenizer = tiny_tokenizer()
    write_jsonl(data_file, [*rows(), long_row()])
    whole = len(examples(data_file, tokenizer, max_length=100_000)[-1][0])
    for limit in (whole - 1, whole - 200, whole * 3 // 4):
        dataset, info = load_tokenized(tokenize(data_file, tokenizer, max_length=limit))
        assert (info["rows"], info["shortened"], info["dropped"]) == (5, 1, 0)
        ids, answer = dataset[4]["input_ids"], dataset[4]["answer_tokens"]
        assert limit - 40 < len(ids) <= limit, "as much as fits stays"
        assert tokenizer.decode(ids[-answer:]) == "3<|im_end|>"
        text = tokenizer.decode(ids)
        assert text.count(" […] ") == 1 and f"{QUESTION}<|im_end|>" in text
        assert render_prompt({"age": 30}, "Word0 happened.") in text and "Word199 happened. How warm" in text
        head, tail = text.split(" […] ")
        assert not set(re.findall(r"Word\d+", head)) & set(re.findall(r"Word\d+", tail))
    dataset, info = load_tokenized(tokenize(data_file, tokenizer, max_length=whole))
    assert (info["shortened"], "[…]" in tokenizer.decode(dataset[4]["input_ids"])) == (0, False)


@pytest.mark.parametrize(
    "row",
    [
        long_row(" ".join([STORY] * 3)),  # less than half of it would be left
        long_row("") | {"prompt": "word " * 500},  # where the stimulus is, is not known
        long_row("", demographic={"age": "old " * 500}),  # nothing that may go
    ],
)
def test_a_row_that_no_shortening_can_save_is_dropped_and_counted(tmp_path, row):
    data_file = tmp_path / "train.jsonl"
    write_jsonl(data_file, [row, *rows()])
    tokenizer = tiny_tokenizer()
    dataset, info = load_tokenized(tokenize(data_file, tokenizer, max_length=1200))
    assert (len(dataset), info["rows"], info["dropped"]) == (4, 4, 1)
    assert info["tokens"] == sum(len(row["input_ids"]) for row in dataset)
    with pytest.raises(SocratesError, match="none of 5 rows can be brought under max_length = 20 tokens"):
        tokenize(data_file, tokenizer, max_length=20)
    assert not list(tmp_path.glob(".tokenized-*.tmp")), "nothing half-written stays"


def test_a_row_whose_scale_would_go_with_the_middle_is_dropped(monkeypatch):
    from socrates.data import shorten as shortening
    from socrates.data.records import parse_answer

    question = f"On a scale from 1 to 7, {'really ' * 200}how warm is it? Only return an integer."
    answer = parse_answer(long_row(stimuli=f"{'word ' * 190}end. {question}"), "train.jsonl", 1)
    length = len(answer.prompt)
    assert shorten_prompt(answer, lambda prompt: len(prompt) < length - 100).endswith(f"end. {question}")
    monkeypatch.setattr(shortening, "question_text", lambda text: "integer.")  # as if it knew no better
    assert shorten_prompt(answer, lambda prompt: len(prompt) < length - 100) is None


def test_the_bytes_do_not_depend_on_the_size_of_a_batch_but_for_its_ends(tmp_path, monkeypatch):
    data_file = tmp_path / "train.jsonl"
    write_jsonl(data_file, [*rows(), *awkward_rows(60), long_row()])
    data_file.write_bytes(b"\n" + data_file.read_bytes().rstrip(b"\n"))
    found = []
    for batch in (1, 7, 1000):
        monkeypatch.setattr(tokenizing, "_BATCH", batch)
        folder = tokenize(data_file, tiny_tokenizer(), max_length=1500)
        dataset, info = load_tokenized(folder)
        found.append(([(row["input_ids"].tolist(), row["answer_tokens"]) for row in dataset], info | {"bytes": 0}))
        shutil.rmtree(folder)
    assert found == found[:1] * 3 and found[0][1]["rows"] == 64
    assert found[0][1]["longest"] == max(len(ids) for ids, _ in found[0][0])


def test_a_bad_line_is_told_with_its_number_and_nothing_stays(data_file):
    data_file.write_bytes(data_file.read_bytes() + b"{nonsense}\n")
    with pytest.raises(SocratesError, match="line 5: not JSON"):
        tokenize(data_file, tiny_tokenizer())
    assert not list(data_file.parent.glob("*tokenized-*[0-9a-f]")) and not list(data_file.parent.glob("*.tmp"))


def test_a_digest_is_remembered_until_the_file_is_touched(data_file, monkeypatch):
    def age():  # as if it had been written long ago
        monkeypatch.setattr(files, "_SAME_MOMENT", -(10**12))

    first = remembered_sha256(data_file)
    assert not list(data_file.parent.glob("*.sha256")), "too young: a change might not be seen"
    age()
    assert remembered_sha256(data_file) == first == sha256_file(data_file)
    monkeypatch.setattr(files, "sha256_file", lambda path: pytest.fail("read again"))
    assert remembered_sha256(data_file) == first
    monkeypatch.undo()
    age()
    found = data_file.stat()
    data_file.write_bytes(data_file.read_bytes().replace(b"Question 0", b"Question 9"))
    os.utime(data_file, ns=(found.st_atime_ns, found.st_mtime_ns))  # same size, same time of change
    assert remembered_sha256(data_file) == sha256_file(data_file) != first
    (data_file.parent / ".train.jsonl.sha256").write_text("{")
    assert remembered_sha256(data_file) == sha256_file(data_file)


def test_a_set_is_reused_and_anything_that_would_change_it_makes_another(data_file):
    folder = tokenize(data_file, tiny_tokenizer())
    before = (folder / "data.arrow").stat().st_mtime_ns
    assert tokenize(data_file, tiny_tokenizer()) == folder
    assert (folder / "data.arrow").stat().st_mtime_ns == before
    other_template = copy.deepcopy(tiny_tokenizer())
    other_template.chat_template = "Survey\n" + other_template.chat_template
    others = {
        tokenize(data_file, tiny_tokenizer(), max_length=1000),
        tokenize(data_file, tiny_tokenizer(), system="Be brief."),
        tokenize(data_file, tiny_tokenizer(3)),
        tokenize(data_file, other_template),
    }
    write_jsonl(data_file, rows((3, 10, 100, -3)))
    others.add(tokenize(data_file, tiny_tokenizer()))
    assert len(others | {folder}) == 6


def test_a_full_disk_and_one_that_may_only_be_read(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if os.getuid() or subprocess.run([*mount, "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("may not mount a small disk")
    try:
        write_jsonl(folder / "train.jsonl", rows(range(2000)))
        with pytest.raises(SocratesError, match=r"No space left on device; free some space"):
            tokenize(folder / "train.jsonl", tiny_tokenizer())
        assert not list(folder.glob("*tokenized-*[0-9a-f]")) and not list(folder.glob("*.tmp"))
        write_jsonl(folder / "train.jsonl", rows())
        made = tokenize(folder / "train.jsonl", tiny_tokenizer())
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert tokenize(folder / "train.jsonl", tiny_tokenizer()) == made and len(load_tokenized(made)[0]) == 4
        with pytest.raises(SocratesError, match=r"Read-only file system; check the folder's permissions"):
            tokenize(folder / "train.jsonl", tiny_tokenizer(), max_length=1000)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("data.arrow", lambda data: data[:-100], r"\d+ bytes, not \d+: cut off"),
        ("data.arrow", None, r"0 bytes, not \d+: cut off"),
        ("cells.json", None, "no such tokenized set's cells"),
        ("info.json", lambda data: data[:20], "not JSON"),
        ("info.json", None, "no such tokenized set's info"),
        ("info.json", lambda data: b"{}", "bytes, not None"),
    ],
)
def test_a_set_that_is_not_whole_is_refused_with_what_to_do(data_file, name, damage, says):
    folder = tokenize(data_file, tiny_tokenizer())
    before = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage:
        (folder / name).write_bytes(damage(before))
    uses = (load_tokenized, lambda _: tokenize(data_file, tiny_tokenizer()))
    for use in uses if name != "cells.json" else [read_contents]:
        with pytest.raises(SocratesError, match=rf"{says}.*rm -r {folder}"):
            use(folder)


def test_a_file_that_changes_after_its_digest_was_taken_is_refused(data_file, monkeypatch):
    def digest_and_change(path):
        digest = sha256_file(path)
        write_jsonl(path, rows((3, 10, 100, -3)))
        return digest

    monkeypatch.setattr(tokenizing, "sha256_of_part", digest_and_change)
    with pytest.raises(SocratesError, match="was changed while it was tokenized"):
        tokenize(data_file, tiny_tokenizer())
    assert not list(data_file.parent.glob("tokenized-*"))


def test_a_kill_at_each_write_to_disk_leaves_no_set_that_is_not_whole(tmp_path):
    data_file = tmp_path / "train.jsonl"
    write_jsonl(data_file, awkward_rows(200))
    folder = tokenize(data_file, tiny_tokenizer())
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    for n in range(1, 20):
        shutil.rmtree(folder)
        done = in_a_fork(lambda: tokenize(data_file, tiny_tokenizer()), at_sync=n)
        left = list(tmp_path.glob(".tokenized-*.tmp"))
        assert folder.is_dir() or (left and not done)
        assert tokenize(data_file, tiny_tokenizer()) == folder
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
        if done:
            break
    assert n > 4 and done
    (tmp_path / ".tokenized-0123456789abcdef.tmp").mkdir()  # of a killed run with other settings
    tokenize(data_file, tiny_tokenizer(), 4000)
    assert not list(tmp_path.glob(".tokenized-*.tmp"))


def _tokenize_here(path):
    return tokenize(path, tiny_tokenizer())


def test_ranks_that_start_together_make_one_set(data_file):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        [folder] = set(pool.map(_tokenize_here, [data_file] * 4, chunksize=1))
    assert [*data_file.parent.glob("tokenized-*")] == [folder]
    assert json.loads((folder / "info.json").read_text())["rows"] == 4


@pytest.mark.parametrize("end", ["{{ m['content'] }} ", "<|im_start|>{{ m['content'] | trim }}x"])
def test_a_template_that_does_not_end_a_turn_with_a_special_token_is_an_error(end):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = f"{{% for m in messages %}}{end}{{% endfor %}}"
    with pytest.raises(SocratesError, match=r"right after the prompt|special token"):
        end_of_turn_id(tokenizer)
