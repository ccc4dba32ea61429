"""Answer distributions, against scoring every answer alone, the library's own sampling, and broken copies."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from tiny import END_OF_TEXT, IM_END, PAPER, ask, loaded, survey_model, tiny_model, tiny_tokenizer, with_adapter
from transformers import LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM, TemperatureLogitsWarper, TopPLogitsWarper

from socrates.config import DecodingSettings
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.inference import tree_attention as tree
from socrates.inference.batching import BatchQueue, token_budget
from socrates.inference.decoding import decoded_probabilities, log_normalizer, probabilities_of, sample_token_ids
from socrates.inference.engine import AnswerDistribution, Question, longest_prompt, parse_answer_text
from socrates.inference.forward import Forward, common_prefix, shared_prefix
from socrates.inference.trie import answer_trie
from socrates.model.chat import prompt_token_ids

SCALES = {
    "1-5": Scale(tuple(range(1, 6))),
    "0-10": Scale(tuple(range(11))),
    "0-100": Scale(tuple(range(101))),
    "1 or 2": Scale((1, 2)),
    "-3 to 3": Scale(tuple(range(-3, 4))),
    "0-1200": Scale(tuple(range(1201))),
}
PROMPTS = (
    "How warm?",
    "How many dollars would you give to the town library? Only return an integer from 0 to 100, nothing else.",
    "The ferry was late again. Do you (1) agree or (2) disagree?",
    "The bakery had no bread left. " * 6,
    "The ferry to the island was late again. " * 15,
)


@functools.cache
def model_of(kind: str):
    """A loaded tiny model: "qwen" or "llama" digits, "+adapter" for an adapter on it."""
    model, tokenizer = survey_model(1 if kind.startswith("qwen") else 3)
    model.lm_head.weight[tokenizer.convert_tokens_to_ids("Ġ"), 0] = 10.0  # a space first, after which no number counts
    if kind.endswith("+adapter"):
        return loaded(with_adapter(model, size=0.03), tokenizer, Path("adapter"))
    return loaded(model, tokenizer)


def prompts_of(model) -> list[list[int]]:
    return prompt_token_ids(model.tokenizer, list(PROMPTS), None)


def settings(temperature: float, top_p: float) -> DecodingSettings:
    return DecodingSettings(temperature=temperature, top_p=top_p)


def score_alone(model, prompt: list[int], texts, ends=None, decoding: DecodingSettings | None = None) -> list[float]:
    """The oracle: each complete answer as a sequence of its own through the plain model, end tokens summed.

    ``decoding`` as transformers' own sampling applies it at each step; None: as the model is.
    """
    ends = list(model.end_token_ids if ends is None else ends)
    by_length: dict[int, list[tuple[str, list[int]]]] = {}
    for text in map(str, texts):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        by_length.setdefault(len(ids), []).append((text, ids))
    scores = {}
    for length, answers in by_length.items():
        for start in range(0, len(answers), 256):
            part = answers[start : start + 256]
            ids = torch.tensor([[*prompt, *tokens] for _, tokens in part])
            logits = model.model(input_ids=ids, logits_to_keep=length + 1).logits.double()
            steps = library_probabilities(logits, decoding) if decoding else logits.softmax(-1)
            path = steps[:, :-1].gather(2, ids[:, -length:, None])[:, :, 0].prod(1)
            whole = path * steps[:, -1, ends].sum(1)
            scores.update({text: float(p) for (text, _), p in zip(part, whole, strict=True)})
    return [scores[text] for text in map(str, texts)]


def library_probabilities(logits, decoding: DecodingSettings):
    """What transformers' own sampling would draw from."""
    if decoding.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    warpers = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    return warpers(None, logits.flatten(0, -2)).softmax(-1).view_as(logits)


@functools.cache
def expected_of(kind: str, prompt: int, scale: str) -> list[float]:
    return score_alone(model_of(kind), prompts_of(model_of(kind))[prompt], SCALES[scale].values)


def questions_of(kind: str, pairs: list[tuple[int, str]]) -> list[Question]:
    prompts = prompts_of(model_of(kind))
    return [Question(prompts[prompt], SCALES[scale], key=0) for prompt, scale in pairs]


def worst_difference(kind: str, pairs: list[tuple[int, str]], results: list[AnswerDistribution]) -> float:
    worst = 0.0
    for (prompt, scale), result in zip(pairs, results, strict=True):
        expected = expected_of(kind, prompt, scale)
        assert tuple(result.values) == SCALES[scale].values and result.exact
        worst = max(worst, np.abs(result.probabilities - expected).max())
        assert result.valid_mass == pytest.approx(sum(expected), abs=1e-5)
    return worst


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen", "llama+adapter"])
def test_equals_scoring_each_answer_alone_whatever_the_batch(kind):
    """In batches of many sizes, with short and long prompts, in another order, or fewer of them."""
    short = [(prompt, scale) for prompt in range(3) for scale in SCALES if scale != "0-1200"]
    short += [(3, "0-10"), (4, "1-5"), (3, "1 or 2"), (4, "-3 to 3")]
    mixed = [*short, (0, "0-1200")]
    shuffled = random.Random(1).sample(mixed, len(mixed))
    for pairs, budget in ((mixed, 8192), (shuffled, 50_000), (short, 1), (short, 300), (mixed[2:3], 8192)):
        results = ask(model_of(kind), questions_of(kind, pairs), max_batch_tokens=budget)
        assert worst_difference(kind, pairs, results) < 1e-5


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_the_model_used_here_can_tell_right_from_wrong(kind):
    """Probabilities are large and uneven, so that agreement to 1e-5 means something; ends and a space are likely."""
    probabilities = np.array(expected_of(kind, 1, "0-100"))
    assert probabilities.sum() > 0.3 and probabilities.max() > max(0.02, 20 * np.median(probabilities))
    model, values = model_of(kind), SCALES["0-10"].values
    assert set(model.tokenizer.convert_ids_to_tokens(model.end_token_ids)) == {IM_END, END_OF_TEXT}
    for end in model.end_token_ids:
        assert sum(score_alone(model, prompts_of(model)[0], values, ends=[end])) > 1e-3
    assert sum(score_alone(model, prompts_of(model)[0], [f" {value}" for value in values])) > 1e-3


def broken_mask(prompt_lengths, tries, length, device):
    """Each node sees all nodes before it: plain causal attention, siblings included."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().repeat(len(tries), 1, 1, 1)


@pytest.mark.parametrize("kind", ["qwen", "llama"])
def test_control_a_mask_that_shows_siblings_is_noticed(kind, monkeypatch):
    model = model_of(kind)
    prompt, trie = prompts_of(model)[1], answer_trie(model.tokenizer, SCALES["0-100"].values)
    expected = np.array(expected_of(kind, 1, "0-100"))

    def difference() -> float:
        with_ends = tree.score_batch(Forward(model), [prompt], [trie], model.end_token_ids, PAPER)
        return float(np.abs(with_ends[0][0] - expected).max())

    assert difference() < 1e-5
    monkeypatch.setattr(tree, "tree_mask", broken_mask)
    assert difference() > 1e-3
    with pytest.raises(SocratesError, match="all at once and one by one differ"):
        ask(model, [Question(prompt, SCALES["1-5"], key=0)])


def test_an_architecture_that_ignores_positions_or_misreads_the_mask_is_refused(monkeypatch):
    model, tokenizer = survey_model(1)
    question = Question([1, 2, 3], SCALES["1-5"], key=0)
    with (
        monkeypatch.context() as broken,
        pytest.raises(SocratesError, match=r"differ.*Qwen2ForCausalLM.* cannot be ev"),
    ):
        forward = model.model.forward
        broken.setattr(model.model, "forward", lambda *args, position_ids=None, **options: forward(*args, **options))
        ask(loaded(model, tokenizer), [question])
    model.set_attn_implementation("eager")
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        ask(loaded(model, tokenizer), [question])


@pytest.mark.slow
@pytest.mark.numerical
def test_a_deep_model_in_bf16_is_accepted_and_its_broken_mask_is_not(monkeypatch):
    """As deep as the 14B, with logits as large as its: rounding alone moves probabilities by several percent there."""
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


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.6, 0.9), (0.0, 0.3), (0.2, 0.5), (1.0, 1.0), (0.6, 0.999), (2.0, 0.05), (2.0, 1.0)]
)
def test_decoding_equals_the_librarys_warpers(temperature, top_p):
    """In float64 on Qwen's vocabulary, whatever this processor's float32 sums are worth."""
    decoding = settings(temperature, top_p)
    generator = torch.Generator().manual_seed(7)
    # Peaked and flat rows in one call: a nucleus of one token, and one of nearly all.
    spread = torch.tensor([0.01, 0.5, 2.0, 10.0])[:, None]
    logits = torch.randn(4, 152_064, generator=generator) * spread
    table = decoded_probabilities(logits, decoding)
    assert table.sum(1) == pytest.approx(np.ones(4), abs=1e-6)
    expected = library_probabilities(logits.double(), decoding)
    assert torch.allclose(table, expected, rtol=0, atol=1e-7)

    rows, tokens = torch.tensor([3, 0, 1, 2, 3]), torch.tensor([7, 1, 152_063, 0, int(logits[3].argmax())])
    exact, decoded = probabilities_of(logits, rows, tokens, decoding)
    assert torch.allclose(exact, logits.double().softmax(1)[rows, tokens], rtol=0, atol=1e-7)
    assert torch.allclose(decoded, expected[rows, tokens], rtol=0, atol=1e-7)


@pytest.mark.numerical
def test_normalizer_and_its_gradient_equal_float64():
    """The training loss's share of the vocabulary, at Qwen's size and with logits far from 0."""
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
@pytest.mark.parametrize("kind", ["qwen", "llama"])
@pytest.mark.parametrize("decoding", [PAPER, settings(1.0, 1.0), settings(1.0, 0.5), settings(0.0, 0.9)])
def test_decoded_answers_equal_the_librarys_warpers_step_by_step(kind, decoding):
    model, values = model_of(kind), SCALES["0-100"].values
    prompt = prompts_of(model)[1]
    (result,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)], decoding)
    expected = score_alone(model, prompt, values, decoding=decoding)
    assert result.decoded == pytest.approx(expected, abs=1e-5)
    assert result.decoded.sum() == pytest.approx(sum(expected), abs=1e-5)
    if decoding == settings(1.0, 1.0):
        assert result.decoded == pytest.approx(result.probabilities, abs=1e-7)


@pytest.mark.slow
def test_agrees_with_twenty_thousand_draws_of_generate():
    model = model_of("llama+adapter")
    prompt = prompts_of(model)[0]
    (result,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)])
    values = SCALES["0-100"].values
    expected = {tuple(model.tokenizer(str(v), add_special_tokens=False)["input_ids"]): v for v in values}
    torch.manual_seed(3)
    counts = dict.fromkeys([*values, None], 0)
    draws, batch = 20_000, 4_000
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
    predicted = np.append(result.decoded, 1 - result.decoded.sum())
    assert 0.5 < result.decoded.sum() < 0.999 and predicted.max() < 0.6  # not a test on a certainty
    assert chi_square(observed, predicted) > 0.001
    # What the test must be able to see: 2% of the mass elsewhere, another temperature, another top_p.
    likeliest, second = predicted.argsort()[[-1, -2]]
    moved = predicted.copy()
    moved[[likeliest, second]] += (-0.02, 0.02)
    assert chi_square(observed, moved) < 0.001
    for other in (settings(0.65, 0.9), settings(0.6, 0.95), settings(0.6, 1.0)):
        (wrong,) = ask(model, [Question(prompt, SCALES["0-100"], key=0)], other)
        assert chi_square(observed, np.append(wrong.decoded, 1 - wrong.decoded.sum())) < 0.001


def chi_square(observed: np.ndarray, predicted: np.ndarray) -> float:
    """P-value of Pearson's test; what is expected fewer than five times is taken together."""
    expected = predicted * observed.sum()
    rare = expected < 5
    if not expected[rare].sum() and observed[rare].sum():
        return 0.0  # was drawn, and cannot be
    groups = [np.append(counts[~rare], counts[rare].sum()) for counts in (observed, expected)]
    kept = groups[1] > 0
    return float(chisquare(groups[0][kept], groups[1][kept]).pvalue)


# --- questions that are answered by draws -----------------------------------------------------------------------------


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen+adapter", "llama"])
def test_draws_equal_drawing_one_by_one_without_a_cache(kind):
    model, decoding = model_of(kind), settings(1.5, 0.95)  # texts of many lengths
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


def test_draws_do_not_depend_on_batch_or_order(monkeypatch):
    monkeypatch.setattr("socrates.inference.engine.SAMPLES", 16)
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


def test_draws_agree_with_the_exact_distribution_and_say_that_they_are_draws(monkeypatch):
    """The same question once exactly and once by draws: as a scale too large to list, draws outside it do not count."""
    model = model_of("qwen")
    prompt = prompts_of(model)[1]
    (exact,) = ask(model, [Question(prompt, SCALES["0-100"], key=1)])
    monkeypatch.setattr("socrates.inference.engine.MAX_TREE_ANSWERS", 100)
    monkeypatch.setattr("socrates.inference.engine.SAMPLES", 800)
    (drawn,) = ask(model, [Question(prompt, SCALES["0-100"], key=1)])
    assert not drawn.exact and drawn.probabilities is None and set(drawn.values) <= set(SCALES["0-100"].values)
    assert list(drawn.values) == sorted(set(drawn.values.tolist())) and drawn.values.dtype == np.int64
    frequencies = np.zeros(101)
    frequencies[drawn.values] = drawn.decoded
    assert np.abs(frequencies - exact.decoded).sum() / 2 < 0.1
    assert drawn.valid_mass == pytest.approx(exact.decoded.sum(), abs=0.06)
    (open_question,) = ask(model, [Question(prompt, None, key=1)])
    assert drawn.valid_mass < open_question.valid_mass < 1 and open_question.values.max() > 100
    (greedy,) = ask(model, [Question(prompt, None, key=1)], settings(0, 1))
    assert len(greedy.values) <= 1 and greedy.valid_mass in (0.0, 1.0)


@pytest.mark.parametrize(
    "text, value",
    [("7", 7), ("0", 0), ("-12", -12), ("1000000", 1_000_000), ("0.5", 0.5), ("-12.25", -12.25)]
    + [
        (text, None)
        for text in (
            "",
            " 7",
            "7\n",
            "07",
            "+7",
            "-0",
            "7.0",
            "0.50",
            "-0.0",
            ".5",
            "1.23456",
            "1,000",
            "7<|im_end|>",
            "٧",
            "9" * 17,
        )
    ],
)
def test_only_a_text_that_is_a_number_as_answers_are_written_counts(text, value):
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


def test_the_common_prefix_leaves_each_prompt_a_token():
    shared = list(range(20))
    assert common_prefix([[*shared, 30, 31], [*shared, 40], (*shared, 30, 99)]) == tuple(shared)
    assert common_prefix([shared, [*shared, 1]]) == tuple(shared[:-1])  # the shorter one still has its end to ask at
    assert common_prefix([]) == ()


@pytest.mark.numerical
@pytest.mark.parametrize("kind", ["qwen+adapter", "llama"])
def test_the_prefix_is_computed_once_and_changes_nothing(kind, monkeypatch):
    model, seen = model_of(kind), []
    hidden = Forward.hidden

    def counting(self, input_ids, **options):
        seen.append((tuple(input_ids.shape), options.get("past_key_values") is not None))
        return hidden(self, input_ids, **options)

    monkeypatch.setattr(Forward, "hidden", counting)
    monkeypatch.setattr("socrates.inference.engine.check_tree_attention", lambda *args: None)
    pairs = [(prompt, scale) for prompt in range(3) for scale in ("1-5", "0-100", "1 or 2")] * 2
    questions = questions_of(kind, pairs)
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


def test_control_a_damaged_prefix_is_noticed(monkeypatch):
    """The check before the first question goes the way that the questions go."""
    model = model_of("qwen")
    prompts = prompts_of(model)
    questions = [Question(prompt, SCALES["1-5"], key=0) for prompt in prompts]
    prefix = shared_prefix(Forward(model), common_prefix(prompts))
    tree.check_tree_attention(model, Forward(model), prefix)
    prefix.cache.layers[0].values = prefix.cache.layers[0].values.roll(1, dims=2)
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        tree.check_tree_attention(model, Forward(model), prefix)
    layout = tree._layout
    monkeypatch.setattr(tree, "_layout", lambda *args: _shifted(layout(*args)))
    with pytest.raises(SocratesError, match="cannot be evaluated exactly"):
        ask(model, questions)


def _shifted(layout):
    layout.position_ids[:] -= 1  # as if the prefix were a token shorter
    return layout


# --- memory -------------------------------------------------------------------------------------------------------


def limit_memory(monkeypatch, cap: int, error) -> None:
    """A decoder that raises an error with more than ``cap`` tokens at once."""
    hidden = Forward.hidden

    def capped(self, input_ids, **options):
        if input_ids.numel() > cap:
            raise error
        return hidden(self, input_ids, **options)

    monkeypatch.setattr(Forward, "hidden", capped)


OUT_OF_MEMORY = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8192 bytes."),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_out_of_memory_halves_the_budget_and_ends_with_the_same_numbers(error, monkeypatch, capsys):
    model = model_of("qwen")
    pairs = [(prompt, scale) for prompt in range(3) for scale in ("1-5", "0-100", "0-10")] * 3
    questions = [*questions_of("qwen", pairs), Question(prompts_of(model)[1], None, key=7)]
    (expected,) = ask(model, questions[-1:])
    capsys.readouterr()
    limit_memory(monkeypatch, 400, error)
    *found, drawn = ask(model, questions, max_batch_tokens=3000)
    lines = capsys.readouterr().err.splitlines()
    pattern = r"out of memory with \d+ tokens at once; going on with \d+"
    assert lines and all(re.fullmatch(pattern, line) for line in lines)
    budgets = [int(line.split()[-1]) for line in lines]  # of rows and draws together: none is tried twice
    assert budgets == sorted(set(budgets), reverse=True) and len(lines) < 6
    assert worst_difference("qwen", pairs, found) < 1e-5
    assert (drawn.values == expected.values).all() and (drawn.decoded == expected.decoded).all()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OUT_OF_MEMORY["gpu"], r"out of memory with one question of \d+ tokens"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "^mat1 and mat2 shapes"),  # no lack of memory
    ],
)
def test_what_smaller_batches_cannot_help_is_an_error_that_says_so(error, message, monkeypatch, capsys):
    limit_memory(monkeypatch, 100, error)
    with pytest.raises((SocratesError, RuntimeError), match=message):
        ask(model_of("qwen"), questions_of("qwen", [(1, "0-100")]))
    assert capsys.readouterr().err == ""


def test_the_budget_finds_itself(monkeypatch):
    config = Qwen2Config(hidden_size=5120, intermediate_size=13824)
    assert token_budget(torch.device("cpu"), config, 4) == token_budget(torch.device("cpu"), None, 2) > 0
    budgets = []
    for free in (0, 1, 4, 50, 500):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free * 2**30, None))
        budgets.append(token_budget(torch.device("cuda"), config, 2))
    assert budgets == sorted(budgets) and budgets[0] == 512 and budgets[-1] == 32768
    assert 1000 < budgets[1] < 4000 and budgets[2] == pytest.approx(4 * budgets[1], rel=0.01)


# --- batches, refusals ------------------------------------------------------------------------------------------------


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


def test_a_window_of_attention_limits_the_prompt():
    limits = {"max_position_embeddings": 4096, "sliding_window": 20, "layer_types": ["full_attention"] * 2}
    assert longest_prompt(SimpleNamespace(**limits)) == 4084  # a window that no layer uses, as in Qwen2.5's config
    limits["layer_types"][1] = "sliding_attention"
    assert longest_prompt(SimpleNamespace(**limits)) == 8


@pytest.mark.parametrize("scale", [SCALES["1-5"], None])
def test_a_model_that_returns_no_numbers_is_an_error(scale, monkeypatch):
    monkeypatch.setattr("socrates.inference.engine.check_tree_attention", lambda *args: None)
    model, tokenizer = survey_model(1)
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(SocratesError, match="NaN or infinity"):
        ask(loaded(model, tokenizer), [Question([1, 2, 3], scale, key=0)])


def test_an_adapter_on_the_output_layer_is_refused():
    model, tokenizer = survey_model(1)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(SocratesError, match="output layer"):
        ask(loaded(adapted, tokenizer, Path("adapter")), [Question([1, 2], SCALES["1-5"], key=0)])
