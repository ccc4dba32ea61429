"""Answer distributions, against scoring every answer alone, the library's own sampling, and broken copies."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import IM_END, loaded, survey_model, tiny_model, tiny_tokenizer, with_adapter

from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.inference import tree_attention as tree
from socrates.inference.batching import BatchQueue, run_batches, token_budget, tokens_that_fit
from socrates.inference.decoding import (
    Decoding,
    decoded_probabilities,
    log_normalizer,
    probabilities_of,
    sample_token_ids,
)
from socrates.inference.engine import (
    AnswerDistribution,
    Question,
    answer_distributions,
    parse_answer_text,
    unless_out_of_memory,
)
from socrates.inference.forward import Forward, common_prefix, shared_prefix
from socrates.inference.trie import answer_trie, build_trie
from socrates.model.chat import prompt_token_ids

PAPER = Decoding(temperature=0.6, top_p=0.9)
SCALES = {
    "1-5": Scale(tuple(range(1, 6))),
    "0-10": Scale(tuple(range(11))),
    "0-100": Scale(tuple(range(101))),
    "1 or 2": Scale((1, 2)),
    "-3 to 3": Scale(tuple(range(-3, 4))),
    "0-2000": Scale(tuple(range(2001))),
}
PROMPTS = (
    "How warm?",
    "How many dollars would you give to the town library? Only return an integer from 0 to 100, nothing else.",
    "The ferry was late again. Do you (1) agree or (2) disagree?",
)


@functools.cache
def model_of(kind: str):
    """A loaded tiny model: "qwen" or "llama" digits, "+adapter" for an adapter on it."""
    model, tokenizer = survey_model(1 if kind.startswith("qwen") else 3)
    if kind.endswith("+adapter"):
        return loaded(with_adapter(model, size=0.03), tokenizer, Path("adapter"))
    return loaded(model, tokenizer)


def prompts_of(model) -> list[list[int]]:
    return prompt_token_ids(model.tokenizer, list(PROMPTS), None)


def ask(model, questions, decoding=PAPER, **options) -> list[AnswerDistribution]:
    results = dict(answer_distributions(model, questions, decoding, **options))
    assert sorted(results) == list(range(len(questions)))
    return [results[index] for index in range(len(questions))]


def score_alone(model, prompt: list[int], values, ends=None) -> dict[int, float]:
    """The oracle: each complete answer as a sequence of its own through the plain model, end tokens summed."""
    import torch

    ends = list(model.end_token_ids if ends is None else ends)
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for value in values:
        ids = model.tokenizer(str(value), add_special_tokens=False)["input_ids"]
        by_length.setdefault(len(ids), []).append((value, ids))
    scores = {}
    with torch.no_grad():
        for length, answers in by_length.items():
            for start in range(0, len(answers), 256):
                part = answers[start : start + 256]
                ids = torch.tensor([[*prompt, *tokens] for _, tokens in part])
                logs = model.model(input_ids=ids).logits[:, -length - 1 :].double().log_softmax(-1)
                steps = logs[:, :-1].gather(2, ids[:, -length:, None])[:, :, 0].sum(1)
                whole = (steps + logs[:, -1, ends].logsumexp(1)).exp()
                scores.update({value: float(p) for (value, _), p in zip(part, whole, strict=True)})
    return scores


@functools.cache
def expected_of(kind: str, prompt: int, scale: str) -> dict[int, float]:
    return score_alone(model_of(kind), prompts_of(model_of(kind))[prompt], SCALES[scale].values)


def worst_difference(kind: str, questions: list[tuple[int, str]], results: list[AnswerDistribution]) -> float:
    worst = 0.0
    for (prompt, scale), result in zip(questions, results, strict=True):
        expected = expected_of(kind, prompt, scale)
        assert tuple(result.values) == SCALES[scale].values
        found = dict(zip(result.values.tolist(), result.probabilities.tolist(), strict=True))
        worst = max(worst, *(abs(found[value] - expected[value]) for value in expected))
        assert result.valid_mass == pytest.approx(sum(expected.values()), abs=1e-5)
    return worst


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama+adapter"])
def test_equals_scoring_each_answer_alone_whatever_the_batch(kind):
    model = model_of(kind)
    prompts = prompts_of(model)
    short = [(prompt, scale) for prompt in range(len(PROMPTS)) for scale in SCALES if scale != "0-2000"]
    mixed = [*short, (0, "0-2000")]
    shuffled = random.Random(1).sample(mixed, len(mixed))
    for questions, budget in ((mixed, 8192), (shuffled, 8192), (short, 1), (short, 300), (mixed[2:3], 8192)):
        asked = [Question(prompts[prompt], SCALES[scale], key=0) for prompt, scale in questions]
        results = ask(model, asked, max_batch_tokens=budget)
        assert all(result.exact and result.samples == 0 for result in results)
        assert worst_difference(kind, questions, results) < 1e-5


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_the_model_used_here_can_tell_right_from_wrong(kind):
    """Probabilities are large and uneven, so that agreement to 1e-5 means something."""
    for prompt, scale in ((1, "0-100"), (0, "0-2000")):
        probabilities = np.array(list(expected_of(kind, prompt, scale).values()))
        assert probabilities.sum() > 0.3
        assert probabilities.max() > 0.02
        assert probabilities.max() > 20 * np.median(probabilities)


def broken_mask(prompt_lengths, tries, length, device):
    """Each node sees all nodes before it: plain causal attention, siblings included."""
    import torch

    return torch.ones(length, length, dtype=torch.bool, device=device).tril().repeat(len(tries), 1, 1, 1)


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_control_a_mask_that_shows_siblings_is_noticed(kind, monkeypatch):
    model = model_of(kind)
    prompt, trie = prompts_of(model)[1], answer_trie(model.tokenizer, SCALES["0-100"].values)
    expected = np.array(list(expected_of(kind, 1, "0-100").values()))

    def difference() -> float:
        with_ends = tree.score_batch(Forward(model), [prompt], [trie], model.end_token_ids, PAPER)
        return float(np.abs(with_ends[0][0] - expected).max())

    assert difference() < 1e-5
    monkeypatch.setattr(tree, "tree_mask", broken_mask)
    assert difference() > 1e-3
    with pytest.raises(SocratesError, match="all at once and one by one differ"):
        ask(model, [Question(prompt, SCALES["1-5"], key=0)])


def test_an_architecture_that_ignores_positions_is_refused(monkeypatch):
    model = model_of("qwen")
    decoder = model.model.model
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda *args, position_ids=None, **options: forward(*args, **options))
    with pytest.raises(SocratesError, match=r"differ.*Qwen2ForCausalLM.* cannot be evaluated exactly"):
        ask(model, [Question(prompts_of(model)[0], SCALES["1-5"], key=0)])


@pytest.mark.numerical
def test_a_deep_model_in_bf16_is_accepted_and_its_broken_mask_is_not(monkeypatch):
    """As deep as the 14B, with logits as large as its: rounding alone moves probabilities by several percent there."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 48, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.2, **shape)
    ).eval()
    model.lm_head.weight.data *= 30 / model(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1].abs().max()
    model = loaded(model.to(torch.bfloat16), tokenizer)
    forward = Forward(model)
    tree.check_tree_attention(model, forward)
    monkeypatch.setattr(tree, "tree_mask", broken_mask)
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        tree.check_tree_attention(model, forward)


def test_eager_attention_which_misreads_the_mask_is_refused():
    model, tokenizer = survey_model(1)
    model.set_attn_implementation("eager")
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        ask(loaded(model, tokenizer), [Question([1, 2, 3], SCALES["1-5"], key=0)])


@pytest.mark.numerical
def test_one_ten_and_hundred_are_told_apart_by_the_end():
    model = model_of("qwen")
    prompt = prompts_of(model)[1]
    (result,) = ask(model, [Question(prompt, Scale((1, 10, 100)), key=0)])
    expected = score_alone(model, prompt, (1, 10, 100))
    assert result.probabilities == pytest.approx(list(expected.values()), abs=1e-6)
    # Without the end, "1" would stand for every text that begins with 1: all of it, and more.
    import torch

    one = model.tokenizer.convert_tokens_to_ids("1")
    begins_with_one = float(model.model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(0)[one])
    assert begins_with_one > 1.2 * result.probabilities[0]
    assert begins_with_one >= result.probabilities.sum()


@pytest.mark.numerical
def test_every_end_token_counts():
    model = model_of("qwen")
    turn_end, text_end = model.tokenizer.convert_tokens_to_ids([IM_END, "<|endoftext|>"])
    assert model.end_token_ids == tuple(sorted((turn_end, text_end)))
    prompt = prompts_of(model)[0]
    (result,) = ask(model, [Question(prompt, SCALES["0-10"], key=0)])
    each = [sum(score_alone(model, prompt, SCALES["0-10"].values, ends=[end]).values()) for end in model.end_token_ids]
    assert min(each) > 0.01
    assert result.valid_mass == pytest.approx(sum(each), abs=1e-5)


# --- decoding ---------------------------------------------------------------------------------------------------------


def library_probabilities(logits, decoding: Decoding):
    """What transformers' own sampling would draw from."""
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    return warpers(None, logits).softmax(-1)


@pytest.mark.numerical
@pytest.mark.parametrize("temperature", [0.2, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1.0])
def test_decoding_equals_the_librarys_warpers(temperature, top_p):
    """In float64 on Qwen's vocabulary, whatever this processor's float32 sums are worth."""
    import torch

    decoding = Decoding(temperature, top_p)
    generator = torch.Generator().manual_seed(7)
    # Peaked and flat rows in one call: a nucleus of one token, and one of nearly all.
    spread = torch.tensor([0.01, 0.5, 2.0, 10.0])[:, None]
    logits = torch.randn(4, 152_064, generator=generator) * spread
    table = decoded_probabilities(logits, decoding)
    assert table.sum(1) == pytest.approx(np.ones(4), abs=1e-6)
    assert torch.allclose(table, library_probabilities(logits.double(), decoding), rtol=0, atol=1e-7)

    rows, tokens = torch.tensor([3, 0, 1, 2, 3]), torch.tensor([7, 1, 152_063, 0, int(logits[3].argmax())])
    exact, decoded = probabilities_of(logits, rows, tokens, decoding)
    assert torch.allclose(exact, logits.double().softmax(1)[rows, tokens], rtol=0, atol=1e-7)
    expected = library_probabilities(logits.double(), decoding)[rows, tokens]
    assert torch.allclose(decoded, expected, rtol=0, atol=1e-7)


@pytest.mark.numerical
def test_normalizer_and_its_gradient_equal_float64():
    """The training loss's share of the vocabulary, at Qwen's size and with logits far from 0."""
    import torch

    generator = torch.Generator().manual_seed(8)
    spread = torch.tensor([0.5, 2.0, 10.0])[:, None]
    logits = (torch.randn(3, 152_064, generator=generator) * spread + 50).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    found, expected = log_normalizer(logits), exact.logsumexp(1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-7)
    found.sum().backward()
    expected.sum().backward()
    assert torch.allclose(logits.grad.double(), exact.grad, rtol=0, atol=1e-7)


@pytest.mark.numerical
def test_greedy_decoding_is_the_most_probable_token():
    import torch

    logits = torch.randn(4, 50)
    for top_p in (0.3, 1.0):
        found = decoded_probabilities(logits, Decoding(0.0, top_p))
        assert found.argmax(1).equal(logits.argmax(1)) and bool(
            (found.sum(1) == 1).all() and (found.amax(1) == 1).all()
        )


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama"])
@pytest.mark.parametrize(
    "decoding", [PAPER, Decoding(1.0, 1.0), Decoding(0.6, 1.0), Decoding(1.0, 0.5), Decoding(0.0, 0.9)]
)
def test_decoded_answers_equal_the_librarys_warpers_step_by_step(kind, decoding):
    import torch

    model = model_of(kind)
    prompt = prompts_of(model)[1]
    (result,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)], decoding)
    ends = list(model.end_token_ids)
    expected = []
    with torch.no_grad():
        for value in SCALES["0-100"].values:
            ids = model.tokenizer(str(value), add_special_tokens=False)["input_ids"]
            logits = model.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 :]
            if decoding.temperature == 0:
                steps = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
            else:
                steps = library_probabilities(logits, decoding)
            path = torch.stack([steps[place, token] for place, token in enumerate(ids)]).prod()
            expected.append(float(path * steps[-1, ends].sum()))
    assert result.decoded == pytest.approx(expected, abs=1e-5)
    assert result.decoded_mass == pytest.approx(sum(expected), abs=1e-5)
    if decoding == Decoding(1.0, 1.0):
        assert result.decoded == pytest.approx(result.probabilities, abs=1e-7)


@pytest.mark.slow
def test_agrees_with_twenty_thousand_draws_of_generate():
    import torch

    model = model_of("llama+adapter")
    prompt = prompts_of(model)[0]
    (result,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)])
    expected = {
        tuple(model.tokenizer(str(v), add_special_tokens=False)["input_ids"]): v for v in SCALES["0-100"].values
    }
    torch.manual_seed(3)
    counts = dict.fromkeys([*SCALES["0-100"].values, None], 0)
    draws, batch = 20_000, 2_000
    for _ in range(draws // batch):
        texts = model.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=True,
            temperature=PAPER.temperature,
            top_p=PAPER.top_p,
            top_k=0,
            repetition_penalty=1.0,
            max_new_tokens=4,
            num_return_sequences=batch,
            eos_token_id=list(model.end_token_ids),
            pad_token_id=model.tokenizer.pad_token_id,
        )[:, len(prompt) :].tolist()
        for ids in texts:
            end = next((place for place, token in enumerate(ids) if token in model.end_token_ids), None)
            counts[None if end is None else expected.get(tuple(ids[:end]))] += 1
    assert sum(counts.values()) == draws
    observed = np.array([counts[value] for value in [*result.values.tolist(), None]])
    predicted = np.append(result.decoded, 1 - result.decoded_mass)
    assert 0.5 < result.decoded_mass < 0.999 and predicted.max() < 0.6  # not a test on a certainty
    assert chi_square(observed, predicted) > 0.001
    # What the test must be able to see: 2% of the mass elsewhere, another temperature, another top_p.
    likeliest, second = predicted.argsort()[[-1, -2]]
    moved = predicted.copy()
    moved[[likeliest, second]] += (-0.02, 0.02)
    assert chi_square(observed, moved) < 0.001
    for other in (Decoding(0.65, 0.9), Decoding(0.6, 0.95), Decoding(0.6, 1.0)):
        (wrong,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)], other)
        assert chi_square(observed, np.append(wrong.decoded, 1 - wrong.decoded_mass)) < 0.001


def chi_square(observed: np.ndarray, predicted: np.ndarray) -> float:
    """P-value of Pearson's test; what is expected fewer than five times is taken together."""
    from scipy.stats import chisquare

    expected = predicted * observed.sum()
    rare = expected < 5
    if not expected[rare].sum() and observed[rare].sum():
        return 0.0  # was drawn, and cannot be
    groups = [np.append(counts[~rare], counts[rare].sum()) for counts in (observed, expected)]
    kept = groups[1] > 0
    return float(chisquare(groups[0][kept], groups[1][kept]).pvalue)


# --- questions that are answered by draws -----------------------------------------------------------------------------


def test_open_questions_are_drawn_and_say_so():
    model = model_of("qwen")
    (result,) = ask(model, [Question(prompts_of(model)[1], None, key=5)], samples=50)
    assert not result.exact and result.samples == 50 and result.probabilities is None
    assert result.decoded * 50 == pytest.approx(np.round(result.decoded * 50)) and (result.decoded > 0).all()
    assert list(result.values) == sorted(set(result.values.tolist())) and result.values.dtype == np.int64
    assert result.valid_mass == result.decoded_mass == pytest.approx(result.decoded.sum())
    assert 0 < result.valid_mass < 1  # this model also writes what is no number


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen+adapter", "llama"])
def test_draws_equal_drawing_one_by_one_without_a_cache(kind):
    import torch

    model, decoding = model_of(kind), Decoding(1.5, 0.95)  # texts of many lengths, which leave the batch one by one
    prompt, uniforms = prompts_of(model)[1], np.random.default_rng(4).random((40, 6))
    expected = []
    for numbers in uniforms:
        ids = list(prompt)
        for number in numbers:
            logits = model.model(input_ids=torch.tensor([ids])).logits[:, -1].double()
            cumulative = library_probabilities(logits, decoding)[0].cumsum(0)
            ids.append(int((cumulative > number * cumulative[-1]).int().argmax()))
            if ids[-1] in model.end_token_ids:
                break
        ended = ids[-1] in model.end_token_ids
        expected.append(ids[len(prompt) : -1] if ended else None)
    assert sample_token_ids(Forward(model), prompt, model.end_token_ids, decoding, uniforms) == expected
    lengths = [len(ids) for ids in expected if ids is not None]
    assert None in expected and len(set(lengths)) > 3


@pytest.mark.numerical
def test_draws_do_not_depend_on_batch_or_order():
    model = model_of("llama")
    prompts = prompts_of(model)
    questions = [Question(prompts[key % 3], None, key=key) for key in range(6)]
    mixed = [Question(prompts[0], SCALES["0-100"], key=9), *questions[::-1], Question(prompts[1], SCALES["1-5"], key=8)]
    alone = [ask(model, [question])[0] for question in questions]
    together = ask(model, mixed, max_batch_tokens=100)[1:-1][::-1]
    for one, other in zip(alone, together, strict=True):
        assert (one.values == other.values).all() and (one.decoded == other.decoded).all()
    assert any(
        len(a.values) != len(b.values) or (a.values != b.values).any()
        for a, b in zip(alone[:3], alone[3:], strict=True)
    )
    (seed_1,) = ask(model, [questions[0]], seed=1)
    assert len(seed_1.values) != len(alone[0].values) or (seed_1.values != alone[0].values).any()


def test_draws_agree_with_the_exact_distribution(monkeypatch):
    """The same question once exactly and once by draws: as a scale too large to list, draws outside it do not count."""
    model = model_of("qwen")
    prompt = prompts_of(model)[1]
    (exact,) = ask(model, [Question(prompt, SCALES["0-100"], key=1)])
    monkeypatch.setattr("socrates.inference.engine.MAX_TREE_ANSWERS", 100)
    (drawn,) = ask(model, [Question(prompt, SCALES["0-100"], key=1)], samples=4000)
    assert not drawn.exact and set(drawn.values) <= set(SCALES["0-100"].values)
    frequencies = np.zeros(101)
    frequencies[drawn.values] = drawn.decoded
    assert np.abs(frequencies - exact.decoded).sum() / 2 < 0.05
    assert drawn.valid_mass == pytest.approx(exact.decoded_mass, abs=0.03)
    (open_question,) = ask(model, [Question(prompt, None, key=1)], samples=4000)
    assert open_question.valid_mass > drawn.valid_mass and open_question.values.max() > 100


def test_greedy_draws_are_all_alike():
    model = model_of("qwen")
    (result,) = ask(model, [Question(prompts_of(model)[1], None, key=1)], Decoding(0.0, 0.9))
    assert len(result.values) <= 1 and result.valid_mass in (0.0, 1.0)


@pytest.mark.parametrize(
    "text, value",
    [("7", 7), ("0", 0), ("-12", -12), ("1000000", 1_000_000)]
    + [
        (text, None)
        for text in ("", " 7", "7 ", "7\n", "07", "+7", "-0", "7.0", "1,000", "$5", "7<|im_end|>", "٧", "9" * 17)
    ],
)
def test_only_a_text_that_is_an_integer_counts(text, value):
    assert parse_answer_text(text) == value


def test_texts_that_do_not_end_or_are_no_integer_do_not_count(monkeypatch):
    model = loaded(tiny_model(tiny_tokenizer()), tiny_tokenizer())  # speaks no numbers
    (result,) = ask(model, [Question(prompts_of(model)[0], None, key=1)])
    assert result.valid_mass == 0 and len(result.values) == 0 and result.normalized() is None
    model = model_of("qwen")
    monkeypatch.setattr("socrates.inference.engine.MAX_NEW_TOKENS", 1)  # a digit, and no room for an end
    (result,) = ask(model, [Question(prompts_of(model)[0], None, key=1)])
    assert result.valid_mass == 0


# --- what all prompts begin with ----------------------------------------------------------------------------------


def test_the_common_prefix_leaves_each_prompt_a_token_and_is_long_or_nothing():
    shared = list(range(20))
    assert common_prefix([[*shared, 30, 31], [*shared, 40], (*shared, 30, 99)]) == tuple(shared)
    assert common_prefix([shared, [*shared, 1]]) == tuple(shared[:-1])  # the shorter one still has its end to ask at
    assert common_prefix([[*shared, 1]]) == common_prefix([]) == ()  # alone, nothing is shared
    assert common_prefix([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]) == ()  # too short to pay


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "qwen+adapter", "llama"])
def test_the_prefix_is_computed_once_and_changes_nothing(kind, monkeypatch):
    monkeypatch.setattr("socrates.inference.forward.MIN_SHARED_TOKENS", 1)
    model, seen = model_of(kind), []
    hidden = Forward.hidden

    def counting(self, input_ids, **options):
        seen.append((tuple(input_ids.shape), options.get("past_key_values") is not None))
        return hidden(self, input_ids, **options)

    monkeypatch.setattr(Forward, "hidden", counting)
    monkeypatch.setattr("socrates.inference.engine.check_tree_attention", lambda *args: None)
    pairs = [(prompt, scale) for prompt in range(3) for scale in ("1-5", "0-100", "1 or 2")] * 2
    questions = [Question(prompts_of(model)[prompt], SCALES[scale], key=0) for prompt, scale in pairs]
    length = len(common_prefix([question.prompt_ids for question in questions]))
    assert length >= 3
    results = ask(model, questions, max_batch_tokens=300)
    assert worst_difference(kind, pairs, results) < 1e-5
    assert seen[0] == ((1, length), False) and all(reused for _, reused in seen[1:]) and len(seen) > 2
    longest = max(len(question.prompt_ids) for question in questions) - length + 111
    assert max(shape[1] for shape, _ in seen[1:]) <= longest
    monkeypatch.setattr("socrates.inference.engine.common_prefix", lambda prompts: ())
    for one, other in zip(results, ask(model, questions), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


@pytest.mark.numerical
def test_control_a_damaged_prefix_is_noticed(monkeypatch):
    """The check before the first question goes the way that the questions go."""
    monkeypatch.setattr("socrates.inference.forward.MIN_SHARED_TOKENS", 1)
    model = model_of("qwen")
    prompts = prompts_of(model)
    questions = [Question(prompt, SCALES["1-5"], key=0) for prompt in prompts]
    prefix = shared_prefix(Forward(model), common_prefix(prompts))
    tree.check_tree_attention(model, Forward(model), prefix)
    (keys, values), *others = prefix.layers
    damaged = replace(prefix, layers=((keys, values.roll(1, dims=2)), *others))
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        tree.check_tree_attention(model, Forward(model), damaged)
    layout = tree._layout
    monkeypatch.setattr(tree, "_layout", lambda *args: _shifted(layout(*args)))
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        ask(model, questions)


def _shifted(layout):
    layout.position_ids[:] -= 1  # as if the prefix were a token shorter
    return layout


def test_a_prompt_without_the_prefix_is_refused():
    model = model_of("qwen")
    prompts, trie = prompts_of(model), answer_trie(model.tokenizer, range(1, 6))
    prefix = shared_prefix(Forward(model), prompts[0][:10])
    with pytest.raises(ValueError, match="does not begin with"):
        tree.score_batch(Forward(model), [prompts[0][1:]], [trie], model.end_token_ids, PAPER, prefix)


# --- what else is asked -------------------------------------------------------------------------------------------


def assert_same_numbers(found: list[AnswerDistribution], expected: list[AnswerDistribution]) -> None:
    """But for rounding; drawn answers, which are counts, exactly."""
    for one, other in zip(found, expected, strict=True):
        assert (one.values == other.values).all() and one.exact == other.exact
        np.testing.assert_allclose(one.decoded, other.decoded, rtol=0, atol=1e-6 if one.exact else 0)
        if one.exact:
            np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-6)


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama+adapter"])
def test_a_questions_numbers_are_the_same_whatever_goes_with_it(kind):
    """In batches of many sizes, with short and long prompts, in another order, or fewer of them."""
    model = model_of(kind)
    beginning, ids = prompts_of(model)[1][:12], prompts_of(model)[1][12:]
    lengths = [20, 21, 33, 64, 65, 121, 180, 257, 460]
    prompts = [[*beginning, *(ids[:1] * (n % 3) + ids * 40)[: n - 12]] for n in lengths]
    scales = ["1-5", "0-10", "1 or 2", "-3 to 3", "0-100"]
    questions = [Question(prompt, SCALES[scales[n % 5]], key=n) for n, prompt in enumerate(prompts)] * 2
    questions.append(Question(prompts[3], None, key=99))
    expected = ask(model, questions)
    for tokens in (1, 300, 50_000):
        assert_same_numbers(ask(model, questions, max_batch_tokens=tokens), expected)
    some = [len(questions) - 1, 8, 5, 4, 0]
    assert_same_numbers(ask(model, [questions[n] for n in some]), [expected[n] for n in some])


# --- memory -------------------------------------------------------------------------------------------------------


def limit_memory(monkeypatch, cap: int, error) -> list[int]:
    """A decoder that runs out of memory with more than ``cap`` tokens at once; the list gets what it was given."""
    sizes: list[int] = []
    hidden = Forward.hidden

    def capped(self, input_ids, **options):
        if input_ids.numel() > cap:
            raise error
        sizes.append(input_ids.numel())
        return hidden(self, input_ids, **options)

    monkeypatch.setattr(Forward, "hidden", capped)
    return sizes


def out_of_memory_errors() -> list[Exception]:
    import torch

    return [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8192 bytes."),
    ]


@pytest.mark.numerical
@pytest.mark.parametrize("error", out_of_memory_errors(), ids=["gpu", "cpu"])
def test_out_of_memory_halves_the_budget_and_ends_with_the_same_numbers(error, monkeypatch, capsys):
    model = model_of("qwen")
    pairs = [(prompt, scale) for prompt in range(3) for scale in ("1-5", "0-100", "0-10")] * 3
    questions = [Question(prompts_of(model)[prompt], SCALES[scale], key=0) for prompt, scale in pairs]
    questions.append(Question(prompts_of(model)[1], None, key=7))
    expected = ask(model, questions)
    capsys.readouterr()
    sizes = limit_memory(monkeypatch, 400, error)
    found = ask(model, questions, max_batch_tokens=3000)
    assert max(sizes) <= 400
    lines = capsys.readouterr().err.splitlines()
    pattern = r"out of memory with \d+ tokens at once; going on with \d+"
    assert lines and all(re.fullmatch(pattern, line) for line in lines)
    budgets = [int(line.split()[-1]) for line in lines]  # of rows and draws together: none is tried twice
    assert budgets == sorted(set(budgets), reverse=True) and len(lines) < 6
    assert_same_numbers(found, expected)


def test_one_question_that_does_not_fit_is_an_error_that_says_so(monkeypatch, capsys):
    model = model_of("qwen")
    questions = [Question(prompt, SCALES["0-100"], key=0) for prompt in prompts_of(model)]
    limit_memory(monkeypatch, 100, out_of_memory_errors()[0])
    with pytest.raises(SocratesError, match=r"out of memory with one question of \d+ tokens"):
        ask(model, questions)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch, capsys):
    tried = []

    def fail(batch):
        tried.append(batch)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        list(run_batches(BatchQueue({0: 5, 1: 5}, 100), functools.partial(unless_out_of_memory, fail)))
    assert tried == [[0, 1]] and capsys.readouterr().err == ""


def test_the_budget_finds_itself():
    import torch
    from transformers import Qwen2Config

    config = Qwen2Config(hidden_size=5120, intermediate_size=13824)
    assert token_budget(torch.device("cpu"), config, 4) == token_budget(torch.device("cpu"), None, 2) > 0
    budgets = [tokens_that_fit(free * 2**30, config, 2) for free in (0, 1, 4, 50, 500)]
    assert budgets == sorted(budgets) and budgets[0] == 512 and budgets[-1] == 32768
    assert 1000 < budgets[1] < 4000 and budgets[2] == pytest.approx(4 * budgets[1], rel=0.01)


# --- given that the answer is valid -----------------------------------------------------------------------------------


def test_normalized_is_given_that_the_answer_is_valid():
    def distribution(decoded):
        decoded = np.array(decoded)
        return AnswerDistribution(np.array([1, 2]), decoded, decoded, exact=True, samples=0)

    assert distribution([0.0, 0.0]).normalized() is None
    assert distribution([0.1, 0.3]).normalized() == pytest.approx([0.25, 0.75])


# --- batches, trie, refusals ------------------------------------------------------------------------------------------


def batches_of(lengths, budget):
    return list(iter(BatchQueue(lengths, budget).take, []))


def test_batches_keep_the_budget_and_lose_nothing():
    lengths = dict(enumerate(random.Random(2).choices(range(5, 400), k=300)))
    batches = batches_of(lengths, 1000)
    assert sorted(index for batch in batches for index in batch) == sorted(lengths)
    sizes = [max(lengths[index] for index in batch) * len(batch) for batch in batches]
    assert max(sizes) <= 1000
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert batches_of({0: 50, 1: 10, 2: 10}, 20) == [[0], [1, 2]]  # too long for the budget: alone
    assert batches_of({}, 100) == []


def test_many_rows_of_real_lengths_are_hardly_padded():
    numbers = np.random.default_rng(5).lognormal(5.15, 0.45, 200).clip(60, 490).astype(int).tolist()
    padded = sum(len(batch) * numbers[batch[0]] for batch in batches_of(dict(enumerate(numbers)), 2048))
    assert sum(numbers) / padded > 0.975


def test_trie_shares_prefixes_and_hides_siblings():
    trie = build_trie([1, 10, 12, 2], [[1], [1, 0], [1, 2], [2]])
    assert trie.tokens.tolist() == [1, 2, 0, 2]
    assert trie.parents.tolist() == [-1, -1, 0, 0]
    assert trie.depths.tolist() == [1, 1, 2, 2]
    assert trie.ends.tolist() == [0, 2, 3, 1]
    assert trie.visible.astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    steps, ends = np.array([0.5, 0.25, 0.1, 0.2]), np.array([0.9, 0.8, 0.7, 0.6])
    assert trie.path_probabilities(steps, ends) == pytest.approx([0.45, 0.5 * 0.1 * 0.7, 0.5 * 0.2 * 0.6, 0.2])


def altered_tokenizer(template: str | None = None, digit: str | None = None):
    """A copy of the Qwen-like tokenizer with another chat template, or one that loses a digit."""
    import copy

    from tokenizers import normalizers

    tokenizer = copy.deepcopy(tiny_tokenizer(1))
    if template is not None:
        tokenizer.chat_template = template
    if digit is not None:
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace(digit, "0")
    return tokenizer


@pytest.mark.parametrize(
    "change, message",
    [
        ({"digit": "7"}, "into '0'"),
        (
            {"template": tiny_tokenizer(1).chat_template.replace("+ message['content']", "+ ' ' + message['content']")},
            "right after",
        ),
        ({"template": tiny_tokenizer(1).chat_template.replace("+ '<|im_end|>'", "")}, "special token"),
    ],
)
def test_a_tokenizer_that_cannot_be_scored_is_an_error(change, message):
    with pytest.raises(SocratesError, match=message):
        answer_trie(altered_tokenizer(**change), range(1, 8))


def test_tokens_that_merge_across_the_prompt_are_an_error():
    """Here the template's last prompt character and the answer's first digit make one token."""
    tokenizer = altered_tokenizer(tiny_tokenizer(3).chat_template.replace("assistant\\n'", "assistant\\n1'"))
    answer_trie(tokenizer, range(3))  # digit by digit: nothing merges
    import copy

    merging = copy.deepcopy(tiny_tokenizer(3))
    merging.chat_template = merging.chat_template.replace(
        "message['role'] + '\n'", "message['role'] + '\n' + ('1' if message['role'] == 'assistant' else '')"
    ).replace("assistant\n'", "assistant\n1'")
    with pytest.raises(SocratesError, match="other tokens when they stand together"):
        answer_trie(merging, range(3))


def test_prompts_that_are_empty_or_too_long_are_errors():
    model = model_of("qwen")
    with pytest.raises(SocratesError, match="row 4 is empty"):
        ask(model, [Question([], SCALES["1-5"], key=4)])
    for scale in (SCALES["1-5"], None):
        with pytest.raises(SocratesError, match=r"row 6 has 4096 tokens.*\(4096\)"):
            ask(model, [Question([5] * 4096, scale, key=6)])


def test_a_window_of_attention_limits_the_prompt(monkeypatch):
    model = model_of("qwen")
    config = model.causal_lm.config
    monkeypatch.setattr(config, "sliding_window", 20)
    question = Question(prompts_of(model)[1], SCALES["1-5"], key=2)
    assert ask(model, [question])  # a window that no layer uses, as in Qwen2.5's config
    monkeypatch.setattr(config, "layer_types", ["full_attention", "sliding_attention"])
    for step in ("shared_prefix", "check_tree_attention"):  # this model is made without such layers
        monkeypatch.setattr(f"socrates.inference.engine.{step}", lambda *args: None)
    with pytest.raises(SocratesError, match=r"can read \(20\)"):
        ask(model, [question])


@pytest.mark.parametrize("scale", [SCALES["1-5"], None])
def test_a_model_that_returns_no_numbers_is_an_error(scale, monkeypatch):
    monkeypatch.setattr("socrates.inference.engine.check_tree_attention", lambda *args: None)
    model, tokenizer = survey_model(1)
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(SocratesError, match="NaN or infinity"):
        ask(loaded(model, tokenizer), [Question([1, 2, 3], scale, key=0)])


def test_an_adapter_on_the_output_layer_is_refused():
    from peft import LoraConfig, get_peft_model

    model, tokenizer = survey_model(1)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(SocratesError, match="output layer"):
        ask(loaded(adapted, tokenizer, Path("adapter")), [Question([1, 2], SCALES["1-5"], key=0)])


@pytest.mark.numerical
def test_bfloat16_stays_close():
    import torch

    model, tokenizer = survey_model(1)
    question = Question(prompts_of(loaded(model, tokenizer))[1], SCALES["0-100"], key=0)
    (exact,) = ask(loaded(model, tokenizer), [question])
    (rounded,) = ask(loaded(model.to(torch.bfloat16), tokenizer), [question])
    assert np.abs(rounded.probabilities - exact.probabilities).sum() / 2 < 0.01
