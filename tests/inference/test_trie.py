"""The tree of answers, against texts that are enumerated and tokenized one by one."""

from __future__ import annotations

import copy
import functools
import json

import pytest
from tiny import CHATML, IM_END, tiny_tokenizer
from tokenizers import Tokenizer, normalizers

from socrates.errors import SocratesError
from socrates.inference.trie import answer_trie
from socrates.model.chat import end_of_turn_id, prompt_texts, prompt_token_ids

SCALES = {
    "1-5": tuple(range(1, 6)),
    "0-10": tuple(range(11)),
    "0-100": tuple(range(101)),
    "-3 to 3": tuple(range(-3, 4)),
    "-10 to 10": tuple(range(-10, 11)),
    "odd": (-120, -7, 0, 5, 1500),
}
KINDS = ["qwen", "llama"]
TRIMMING = CHATML.replace("message['content']", "message['content'] | trim")  # as Llama 3's template


@functools.cache
def tokenizer_of(kind: str):
    """Digits one by one ("qwen") or up to three in a token ("llama"): 000 to 099 too, as in Llama 3's vocabulary."""
    if kind == "qwen":
        return tiny_tokenizer(1)
    tokenizer = copy.deepcopy(tiny_tokenizer(3))
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    joined = [["0", digit] for digit in "0123456789"]  # then 0|70, and 00|7
    joined += [["0", str(number)] for number in range(10, 100)] + [["00", digit] for digit in "0123456789"]
    backend["model"]["merges"] += joined
    backend["model"]["vocab"].update(tokenizer.get_added_vocab())  # so that they keep their ids
    backend["model"]["vocab"].update({a + b: len(tokenizer) + place for place, (a, b) in enumerate(joined)})
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    return tokenizer


def written(trie) -> dict[tuple[int, ...], int]:
    """Each complete token sequence of a tree, and the value that it counts for."""
    sequences = {}
    for end, value in zip(trie.ends.tolist(), trie.values.tolist(), strict=True):
        path, node = [], end
        while node != -1:
            path.append(int(trie.tokens[node]))
            node = int(trie.parents[node])
        assert tuple(path[::-1]) not in sequences
        sequences[tuple(path[::-1])] = value
    return sequences


# --- token sequences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
def test_the_tree_holds_each_answer_in_the_tokens_of_its_conversation(kind, scale):
    """The tokens are read off the whole conversation, tokenized at once: prompt, answer, end."""
    tokenizer, values = tokenizer_of(kind), SCALES[scale]
    (before,) = prompt_texts(tokenizer, ["Whole numbers?"], None)
    (prompt,) = prompt_token_ids(tokenizer, ["Whole numbers?"], None)
    expected = {}
    for value in values:
        ids = tokenizer(f"{before}{value}{IM_END}\n", add_special_tokens=False)["input_ids"]
        answer = ids[len(prompt) : ids.index(end_of_turn_id(tokenizer), len(prompt))]
        assert ids[: len(prompt)] == prompt
        expected[tuple(answer)] = value
    trie = answer_trie(tokenizer, values)
    assert written(trie) == expected
    assert tuple(trie.values) == values
    assert len(set(trie.ends)) == len(trie.ends)


@pytest.mark.parametrize("kind, expected", [("qwen", ["7", "1 0 0"]), ("llama", ["7", "100"])])
def test_digits_as_the_two_kinds_of_tokenizers_write_them(kind, expected):
    """Spelt out, so that a slip shared by the tree and the oracle above does not pass."""
    tokenizer = tokenizer_of(kind)
    found = {value: ids for ids, value in written(answer_trie(tokenizer, range(101))).items()}
    assert [" ".join(tokenizer.convert_ids_to_tokens(found[value])) for value in (7, 100)] == expected


# --- templates and tokenizers -----------------------------------------------------------------------------------------


def altered(kind: str, template: str | None = None, normalizer=None):
    """A copy of a tiny tokenizer with another chat template or with a step before everything else."""
    tokenizer = copy.deepcopy(tokenizer_of(kind))
    if template is not None:
        tokenizer.chat_template = template
    if normalizer is not None:
        tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_strips_the_answer_changes_nothing(kind):
    """Llama 3's template trims every message; the model's own text is not trimmed."""
    tokenizer = altered(kind, TRIMMING)
    stripped = tokenizer.apply_chat_template([{"role": "assistant", "content": " 7"}], tokenize=False)
    assert "\n7<|im_end|>" in stripped  # or this test shows nothing
    expected = answer_trie(tokenizer_of(kind), range(-10, 101))
    assert written(answer_trie(tokenizer, range(-10, 101))) == written(expected)


CONTENT = "message['content']"
# Where digits may share a token, the template's last character before an answer and the answer's first digit do.
MERGING = CHATML.replace("+ '\n' +", "+ ('\n1' if message['role'] == 'assistant' else '\n') +").replace(
    "assistant\n'", "assistant\n1'"
)


@pytest.mark.parametrize(
    ("kind", "change", "values", "message"),
    [
        ("qwen", {"normalizer": normalizers.Replace("7", "1")}, 7, "turns '7' into '1'; answers of such a model"),
        ("qwen", {"template": CHATML.replace(CONTENT, f"' ' + {CONTENT}")}, 0, "right after"),
        ("qwen", {"template": CHATML.replace("+ '<|im_end|>'", "")}, 0, "special token"),
        (
            "qwen",
            {"template": CHATML.replace(CONTENT, f"{CONTENT} + ('.' if {CONTENT} == '10' else '')")},
            10,
            r"answer '10' and end of turn .* answers of such a model cannot",
        ),
        ("llama", {"template": MERGING}, 0, "other tokens when they stand together"),
    ],
)
def test_a_tokenizer_or_template_that_cannot_be_scored_is_an_error(kind, change, values, message):
    """``values``: so many answers are well."""
    tokenizer = altered(kind, **change)
    if values:
        answer_trie(tokenizer, range(values))
    with pytest.raises(SocratesError, match=message):
        answer_trie(tokenizer, range(values + 3))


def test_tokens_that_cannot_merge_may_stand_beside_the_prompt():
    answer_trie(altered("qwen", MERGING), range(3))  # digit by digit
