"""The tree of answers and of their other forms, against texts that are enumerated, tokenized and scored one by one."""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections import defaultdict

import numpy as np
import pytest
from tiny import CHATML, IM_END, loaded, survey_model, tiny_tokenizer
from tokenizers import Tokenizer

from socrates import tree
from socrates.decoding import Decoding
from socrates.errors import SocratesError
from socrates.forward import Forward
from socrates.prompts import answer_token_ids, end_of_turn_id, end_of_turn_text, prompt_texts, prompt_token_ids
from socrates.trie import ANSWER_FORMS, answer_texts, answer_trie, answer_width, build_trie

SPACE, ZEROS = ["leading_space"], ["leading_zeros"]
CHOICES = [[], SPACE, ZEROS, [*SPACE, *ZEROS]]
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


def every_text(values, forms) -> dict[str, int]:
    """The oracle: all short texts of digits that read as one of the values, found by trying all of them."""
    digits = range(1, max(len(str(value).lstrip("-")) for value in values) + 1)
    found = {}
    for sign, count in itertools.product(("", "-"), digits):
        for number in map("".join, itertools.product("0123456789", repeat=count)):
            value = int(sign + number)
            plain = sign + number == str(value)
            if value in values and (plain or ("leading_zeros" in forms and not (sign and value == 0))):
                found[sign + number] = value
    if "leading_space" in forms:
        found.update({f" {text}": value for text, value in found.items()})
    return found


def written(trie) -> dict[tuple[int, ...], int]:
    """Each complete token sequence of a tree, and the value that it counts for."""
    sequences = {}
    for end, place in zip(trie.ends.tolist(), trie.ended_values.tolist(), strict=True):
        path, node = [], end
        while node != -1:
            path.append(int(trie.tokens[node]))
            node = int(trie.parents[node])
        assert tuple(path[::-1]) not in sequences
        sequences[tuple(path[::-1])] = int(trie.values[place])
    return sequences


# --- texts ------------------------------------------------------------------------------------------------------------


def test_texts_of_an_answer():
    assert answer_texts(7, 3) == answer_texts(7, 3, ()) == ["7"]
    assert answer_texts(7, 3, SPACE) == ["7", " 7"]
    assert answer_texts(7, 3, ZEROS) == ["7", "07", "007"]
    assert answer_texts(7, 3, ANSWER_FORMS) == ["7", "07", "007", " 7", " 07", " 007"]
    assert answer_texts(-7, 2, ANSWER_FORMS) == ["-7", "-07", " -7", " -07"]
    assert answer_texts(0, 2, ZEROS) == ["0", "00"]
    assert answer_texts(100, 3, ZEROS) == ["100"] and answer_texts(7, 1, ZEROS) == ["7"]
    assert answer_width(range(101)) == 3 and answer_width((-10, 5)) == 2 and answer_width((0,)) == 1


@pytest.mark.parametrize("forms", ["leading_space", ["leading space"], ["leading_space", "decimals"], [""]])
def test_an_unknown_form_is_refused(forms):
    for call in (lambda: answer_texts(7, 3, forms), lambda: answer_trie(tokenizer_of("qwen"), range(3), forms)):
        with pytest.raises(ValueError, match=r"unknown forms.*leading_space, leading_zeros"):
            call()


# --- token sequences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("forms", CHOICES, ids="+".join)
def test_the_tree_holds_each_text_in_the_tokens_of_its_conversation(kind, scale, forms):
    """The tokens are read off the whole conversation, tokenized at once: prompt, answer, end."""
    tokenizer, values = tokenizer_of(kind), SCALES[scale]
    (before,) = prompt_texts(tokenizer, ["Whole numbers?"], None)
    (prompt,) = prompt_token_ids(tokenizer, ["Whole numbers?"], None)
    expected = {}
    for text, value in every_text(values, forms).items():
        ids = tokenizer(f"{before}{text}{IM_END}\n", add_special_tokens=False)["input_ids"]
        answer = ids[len(prompt) : ids.index(end_of_turn_id(tokenizer), len(prompt))]
        assert ids[: len(prompt)] == prompt
        expected[tuple(answer)] = value
    trie = answer_trie(tokenizer, values, forms)
    assert written(trie) == expected
    assert tuple(trie.values) == values
    assert (np.diff(trie.ended_values) >= 0).all() and set(trie.ended_values) == set(range(len(values)))
    assert len(set(trie.ends)) == len(trie.ends) == len(trie.ended_values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forms", CHOICES, ids="+".join)
def test_every_node_sees_its_ancestors_and_itself(kind, forms):
    trie = answer_trie(tokenizer_of(kind), SCALES["odd"], forms)
    assert (np.diff(trie.depths) >= 0).all() and (trie.parents < np.arange(len(trie))).all()
    for node in range(len(trie)):
        path, above = [node], int(trie.parents[node])
        while above != -1:
            path.append(above)
            above = int(trie.parents[above])
        assert np.flatnonzero(trie.visible[node]).tolist() == sorted(path) and trie.depths[node] == len(path)


def test_digits_and_spaces_as_the_two_kinds_of_tokenizers_write_them():
    """Spelt out, so that a slip shared by the tree and the oracle above does not pass."""
    sevens = {
        "qwen": ["7", "0 7", "0 0 7", "Ġ 7", "Ġ 0 7", "Ġ 0 0 7"],
        "llama": ["7", "07", "007", "Ġ 7", "Ġ 07", "Ġ 007"],
    }
    for kind, expected in sevens.items():
        tokenizer = tokenizer_of(kind)
        sequences = written(answer_trie(tokenizer, range(101), ANSWER_FORMS))
        found = [ids for ids, value in sequences.items() if value == 7]
        assert [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in found] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_the_plain_number_and_nothing_else(kind):
    tokenizer = tokenizer_of(kind)
    for values in SCALES.values():
        plain = [answer_token_ids(tokenizer, value) for value in values]
        trie = answer_trie(tokenizer, values)
        assert written(trie) == dict(zip(map(tuple, plain), values, strict=True))
        assert trie.ended_values.tolist() == list(range(len(values)))  # one end each, in order
        for name, array in vars(build_trie(values, [[ids] for ids in plain])).items():
            assert (array == getattr(trie, name)).all(), name


def test_a_scale_of_one_digit_has_no_leading_zeros():
    tokenizer = tokenizer_of("qwen")
    for scale in ("1-5", "-3 to 3"):
        assert written(answer_trie(tokenizer, SCALES[scale], ZEROS)) == written(answer_trie(tokenizer, SCALES[scale]))


def test_other_forms_stand_beside_the_plain_one_in_whatever_order_they_are_named():
    tokenizer = tokenizer_of("qwen")
    one, other = (answer_trie(tokenizer, range(101), forms) for forms in (ANSWER_FORMS, {*ANSWER_FORMS[::-1]}))
    assert (one.ends == other.ends).all() and (one.tokens == other.tokens).all()
    plain = answer_trie(tokenizer, range(101))
    assert written(plain).items() < written(one).items()


# --- probabilities ----------------------------------------------------------------------------------------------------


def test_an_answers_probability_is_the_sum_over_its_forms():
    trie = build_trie([3, 5, 9], [[[3], [0, 3]], [[5]], [[0, 9], [9], [0, 0, 9]]])
    assert trie.tokens.tolist() == [0, 3, 5, 9, 0, 3, 9, 9]
    assert trie.ends.tolist() == [1, 5, 2, 6, 3, 7] and trie.ended_values.tolist() == [0, 0, 1, 2, 2, 2]
    steps = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.25, 0.125, 0.75])
    ends = np.array([9.0, 0.9, 0.8, 0.7, 9.0, 0.6, 0.5, 0.4])
    expected = [0.2 * 0.9 + 0.1 * 0.25 * 0.6, 0.3 * 0.8, 0.1 * 0.125 * 0.5 + 0.4 * 0.7 + 0.1 * 0.5 * 0.75 * 0.4]
    assert trie.path_probabilities(steps, ends) == pytest.approx(expected, abs=1e-15)
    with pytest.raises(ValueError, match="8 nodes"):
        trie.path_probabilities(steps[1:], ends)


@functools.cache
def model_of(kind: str):
    """A tiny model that often begins with a space or a zero, so that the other forms have a share worth comparing."""
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", ["0-10", "0-100", "-10 to 10"])
def test_probabilities_equal_scoring_each_text_alone(kind, scale):
    model, values = model_of(kind), SCALES[scale]
    (before,) = prompt_texts(model.tokenizer, ["How warm do you feel?"], None)
    (prompt,) = prompt_token_ids(model.tokenizer, ["How warm do you feel?"], None)
    alone = {text: text_probability(model, before, text) for text in every_text(values, ANSWER_FORMS)}
    sums = {}
    for forms in CHOICES:
        expected = defaultdict(float)
        for text, value in every_text(values, forms).items():
            expected[value] += alone[text]
        trie = answer_trie(model.tokenizer, values, forms)
        ((found, _),) = tree.score_batch(Forward(model), [prompt], [trie], model.end_token_ids, Decoding(0.6, 0.9))
        assert found == pytest.approx([expected[value] for value in values], rel=1e-4, abs=1e-6)
        sums["+".join(forms)] = found.sum()
        assert found.sum() == pytest.approx(sum(expected.values()), abs=1e-4)
    # Each form has a share that the comparison above would miss.
    assert min(sums["leading_zeros"], sums["leading_space"]) > sums[""] + 1e-3
    assert sums["leading_space+leading_zeros"] > sums["leading_space"] + sums["leading_zeros"] - sums[""] + 1e-3


def test_decoding_too_is_summed_over_the_forms():
    """With nothing cut off and temperature 1, what decoding ends up with is what the model says."""
    model = model_of("qwen")
    (prompt,) = prompt_token_ids(model.tokenizer, ["How warm do you feel?"], None)
    trie = answer_trie(model.tokenizer, range(101), ANSWER_FORMS)
    ((found, decoded),) = tree.score_batch(Forward(model), [prompt], [trie], model.end_token_ids, Decoding(1.0, 1.0))
    assert decoded == pytest.approx(found, rel=1e-5, abs=1e-7) and found.sum() > 0.3


# --- templates and tokenizers -----------------------------------------------------------------------------------------


def altered(kind: str = "qwen", template: str | None = None, normalizer=None):
    """A copy of a tiny tokenizer with another chat template or with a step before everything else."""
    tokenizer = copy.deepcopy(tokenizer_of(kind))
    if template is not None:
        tokenizer.chat_template = template
    if normalizer is not None:
        tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


def replacing(pattern: str, content: str):
    from tokenizers import Regex, normalizers

    return normalizers.Replace(Regex(pattern), content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_strips_the_answer_changes_nothing(kind):
    """Llama 3's template trims every message; the model's own text is not trimmed."""
    tokenizer = altered(kind, TRIMMING)
    stripped = tokenizer.apply_chat_template([{"role": "assistant", "content": " 7"}], tokenize=False)
    assert "\n7<|im_end|>" in stripped  # or this test shows nothing
    assert end_of_turn_text(tokenizer) == f"{IM_END}\n"
    for forms in CHOICES:
        expected = answer_trie(tokenizer_of(kind), range(-10, 101), forms)
        assert written(answer_trie(tokenizer, range(-10, 101), forms)) == written(expected)


def merging_tokenizer():
    """Byte by byte, but a line break and a space behind it are one token, and so are two zeros behind a space."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĠ"]
    backend = Tokenizer(models.BPE({symbol: place for place, symbol in enumerate(symbols)}, [("Ċ", "Ġ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", IM_END)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=IM_END, chat_template=CHATML)


def test_a_form_that_merges_with_the_prompt_is_an_error_that_names_it():
    tokenizer = merging_tokenizer()
    assert len(answer_trie(tokenizer, range(11), ZEROS).ends) == 21
    for forms in (SPACE, ANSWER_FORMS):
        with pytest.raises(
            SocratesError, match=r"answer ' 0' .* when they stand together .* form leading_space cannot .*leave"
        ):
            answer_trie(tokenizer, range(11), forms)


def test_a_form_that_the_tokenizer_does_not_give_back_is_an_error_that_names_it():
    tokenizer = altered(normalizer=replacing(r"\b0(?=[0-9])", "o"))
    answer_trie(tokenizer, range(101), SPACE)
    with pytest.raises(SocratesError, match=r"turns '00' into 'o0'; answers of the form leading_zeros cannot"):
        answer_trie(tokenizer, range(101), ZEROS)
    tokenizer = altered(normalizer=replacing(r" (?=0[0-9])", "_"))
    for forms in (SPACE, ZEROS):
        answer_trie(tokenizer, range(101), forms)
    with pytest.raises(SocratesError, match=r"turns ' 00' into '_00'; .* form leading_space with leading_zeros cannot"):
        answer_trie(tokenizer, range(101), ANSWER_FORMS)


def test_a_form_that_is_written_otherwise_behind_the_prompt_is_an_error():
    """On its own " 7" loses its space here and looks like "7"; behind the prompt it does not."""
    from tokenizers import normalizers

    tokenizer = altered(normalizer=normalizers.Strip())
    tokenizer.chat_template = CHATML.replace("+ '\n'", "+ ': |'").replace("assistant\n", "assistant: |")
    assert tokenizer.tokenize(" 7") == ["7"]
    answer_trie(tokenizer, range(11), ZEROS)
    with pytest.raises(SocratesError, match=r"' 0' .* stand together .* leading_space"):
        answer_trie(tokenizer, range(11), SPACE)


def test_a_template_that_ends_one_answer_otherwise_is_an_error():
    content = "message['content'] + ('.' if message['content'] == '10' else '')"
    tokenizer = altered(template=CHATML.replace("message['content']", content))
    answer_trie(tokenizer, range(10), ANSWER_FORMS)
    with pytest.raises(SocratesError, match=r"answer '10' and end of turn .* answers of such a model cannot"):
        answer_trie(tokenizer, range(11), ANSWER_FORMS)


@pytest.mark.parametrize(
    "pattern, same, other",
    [(r"\b0+(?=[0-9])", ZEROS, SPACE), (r" (?=-?[0-9])", SPACE, ZEROS)],
    ids=["zeros are lost", "spaces are lost"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_forms_that_are_the_same_tokens_count_once(kind, pattern, same, other):
    tokenizer = altered(kind, normalizer=replacing(pattern, ""))
    values = range(-10, 101)
    plain = answer_trie(tokenizer, values)
    once = answer_trie(tokenizer, values, same)
    assert written(once) == written(plain) and len(once.ends) == len(values)
    assert written(answer_trie(tokenizer, values, ANSWER_FORMS)) == written(answer_trie(tokenizer, values, other))


def test_values_that_are_the_same_tokens_are_an_error_with_and_without_forms():
    tokenizer = altered(normalizer=replacing("7", "1"))
    for forms in CHOICES:
        with pytest.raises(SocratesError, match="turns '7' into '1'; answers of such a model"):
            answer_trie(tokenizer, range(11), forms)


@pytest.mark.parametrize(
    "answers, token_ids, message",
    [
        ([1, 2], [[[1]], [[1]]], "two answers"),
        ([1, 2], [[[1], [1]], [[2]]], "twice"),
        ([1, 2], [[[1]], []], "need a token sequence"),
        ([1, 2], [[[1]], [[]]], "without tokens"),
        ([1, 2], [[[1]]], "2 answers"),
    ],
)
def test_sequences_that_would_count_wrong_are_refused(answers, token_ids, message):
    with pytest.raises(ValueError, match=message):
        build_trie(answers, token_ids)


def test_an_answer_named_twice_is_refused():
    with pytest.raises(ValueError, match="same tokens"):
        answer_trie(tokenizer_of("qwen"), (1, 1), ANSWER_FORMS)
