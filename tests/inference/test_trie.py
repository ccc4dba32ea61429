"""The tree of answers, against texts that are enumerated, tokenized and scored one by one."""

from __future__ import annotations

import copy
import functools
import json

import numpy as np
import pytest
from tiny import CHATML, IM_END, loaded, survey_model, tiny_tokenizer
from tokenizers import Tokenizer, normalizers

from socrates.errors import SocratesError
from socrates.inference import tree_attention as tree
from socrates.inference.decoding import Decoding
from socrates.inference.forward import Forward
from socrates.inference.trie import answer_trie, build_trie
from socrates.model.chat import end_of_turn_id, end_of_turn_text, prompt_texts, prompt_token_ids

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


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_sees_its_ancestors_and_itself(kind):
    trie = answer_trie(tokenizer_of(kind), SCALES["odd"])
    assert (np.diff(trie.depths) >= 0).all() and (trie.parents < np.arange(len(trie))).all()
    for node in range(len(trie)):
        path, above = [node], int(trie.parents[node])
        while above != -1:
            path.append(above)
            above = int(trie.parents[above])
        assert np.flatnonzero(trie.visible[node]).tolist() == sorted(path) and trie.depths[node] == len(path)


@pytest.mark.parametrize("kind, expected", [("qwen", ["7", "1 0 0"]), ("llama", ["7", "100"])])
def test_digits_as_the_two_kinds_of_tokenizers_write_them(kind, expected):
    """Spelt out, so that a slip shared by the tree and the oracle above does not pass."""
    tokenizer = tokenizer_of(kind)
    found = {value: ids for ids, value in written(answer_trie(tokenizer, range(101))).items()}
    assert [" ".join(tokenizer.convert_ids_to_tokens(found[value])) for value in (7, 100)] == expected


# --- probabilities ----------------------------------------------------------------------------------------------------


def test_an_answers_probability_is_the_product_along_its_path():
    trie = build_trie([3, 5, 9], [[0, 3], [5], [0, 9, 9]])
    assert trie.tokens.tolist() == [0, 5, 3, 9, 9] and trie.ends.tolist() == [2, 1, 4]
    steps, ends = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([9.0, 0.9, 0.8, 9.0, 0.7])
    expected = [0.1 * 0.3 * 0.8, 0.2 * 0.9, 0.1 * 0.4 * 0.5 * 0.7]
    assert trie.path_probabilities(steps, ends) == pytest.approx(expected, abs=1e-15)


@functools.cache
def model_of(kind: str):
    """A tiny model that often begins with a space or a zero, which must not count for any answer."""
    model, _ = survey_model(1 if kind == "qwen" else 3)
    tokenizer = tokenizer_of(kind)
    model.resize_token_embeddings(len(tokenizer) + 5, mean_resizing=False)
    head, embedding = model.lm_head.weight.data, model.model.embed_tokens.weight.data
    head[tokenizer.convert_tokens_to_ids("Ġ"), 0] = 12.0
    for text, token in tokenizer.get_vocab().items():
        if text.isdigit() and text.startswith("0"):
            head[token, 0] = 13.0 if kind == "qwen" else 4.0 if len(text) == 3 else 10.0
            head[token, 1] = 0.0
            embedding[token, :2] = 3.0  # a number, as `survey_model` marks them
    return loaded(model, tokenizer)


def text_probability(model, before: str, text: str) -> float:
    """One complete text through the plain model, in the tokens of the whole conversation."""
    import torch

    prompt = model.tokenizer(before, add_special_tokens=False)["input_ids"]
    ids = model.tokenizer(before + text, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    with torch.no_grad():
        logs = model.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    path = sum(float(logs[place - 1, ids[place]]) for place in range(len(prompt), len(ids)))
    return float(np.exp(path + float(logs[-1, list(model.end_token_ids)].logsumexp(0))))


@pytest.mark.numerical
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", ["0-10", "0-100", "-10 to 10"])
def test_probabilities_equal_scoring_each_text_alone(kind, scale):
    model, values = model_of(kind), SCALES[scale]
    (before,) = prompt_texts(model.tokenizer, ["How warm do you feel?"], None)
    (prompt,) = prompt_token_ids(model.tokenizer, ["How warm do you feel?"], None)
    expected = [text_probability(model, before, str(value)) for value in values]
    trie = answer_trie(model.tokenizer, values)
    ((found, _),) = tree.score_batch(Forward(model), [prompt], [trie], model.end_token_ids, Decoding(0.6, 0.9))
    assert found == pytest.approx(expected, abs=1e-5)
    assert sum(text_probability(model, before, f" {value}") for value in values) > 1e-3


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
    assert end_of_turn_text(tokenizer) == f"{IM_END}\n"
    expected = answer_trie(tokenizer_of(kind), range(-10, 101))
    assert written(answer_trie(tokenizer, range(-10, 101))) == written(expected)


def test_a_template_that_ends_one_answer_otherwise_is_an_error():
    content = "message['content'] + ('.' if message['content'] == '10' else '')"
    tokenizer = altered("qwen", CHATML.replace("message['content']", content))
    answer_trie(tokenizer, range(10))
    with pytest.raises(SocratesError, match=r"answer '10' and end of turn .* answers of such a model cannot"):
        answer_trie(tokenizer, range(11))


def test_values_that_are_the_same_tokens_are_an_error():
    tokenizer = altered("qwen", normalizer=normalizers.Replace("7", "1"))
    with pytest.raises(SocratesError, match="turns '7' into '1'; answers of such a model"):
        answer_trie(tokenizer, range(11))


@pytest.mark.parametrize(
    "answers, token_ids, message",
    [
        ([1, 2], [[1], [1]], "two answers"),
        ([1, 2], [[1], []], "without tokens"),
        ([1, 2], [[1]], "2 answers"),
    ],
)
def test_sequences_that_would_count_wrong_are_refused(answers, token_ids, message):
    with pytest.raises(ValueError, match=message):
        build_trie(answers, token_ids)


def test_an_answer_named_twice_is_refused():
    with pytest.raises(ValueError, match="same tokens"):
        answer_trie(tokenizer_of("qwen"), (1, 1))
