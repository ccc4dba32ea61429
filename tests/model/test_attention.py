"""Attention stays within each example of a flattened batch, and the check that says so can fail."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from socrates.errors import SocratesError
from socrates.model import attention
from socrates.model.attention import SDPA, check_examples_apart, choose_attention, flat_inputs


def model_with(implementation, dtype=torch.float32):
    model = tiny_model(tiny_tokenizer()).to(dtype)
    model.config._attn_implementation = implementation
    return model


@pytest.fixture(scope="module")
def model():
    return model_with(choose_attention("sdpa"))


def examples(lengths=(31, 5, 1, 18)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(300, (1, n), generator=generator) for n in lengths]


def logits(model, ids, **inputs):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False, **inputs).logits[0]


@pytest.mark.numerical
def test_an_example_beside_others_is_what_it_is_alone(model):
    parts = examples()
    lengths = [part.shape[1] for part in parts]
    together = logits(model, torch.cat(parts, 1), **flat_inputs(lengths, SDPA, "cpu"))
    alone = torch.cat([logits(model, part, **flat_inputs([part.shape[1]], SDPA, "cpu")) for part in parts])
    assert (together - alone).abs().max() < 1e-4  # some ulps of logits around 7, on any processor; a leak is 0.1
    plain = model_with("sdpa")  # the library's own attention on each alone
    expected = torch.cat([logits(plain, part) for part in parts])
    assert (alone - expected).abs().max() < 1e-4


@pytest.mark.numerical
def test_gradients_do_not_reach_across(model):
    parts = examples()
    lengths = [part.shape[1] for part in parts]
    embedded = model.get_input_embeddings()(torch.cat(parts, 1)).detach().requires_grad_()
    out = model(inputs_embeds=embedded, use_cache=False, **flat_inputs(lengths, SDPA, "cpu")).logits
    out[0, lengths[0] : lengths[0] + lengths[1]].sum().backward()
    touched = embedded.grad[0].abs().sum(-1) > 0
    assert touched.nonzero().flatten().tolist() == list(range(lengths[0], lengths[0] + lengths[1]))


@pytest.mark.numerical
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_passes_where_examples_are_apart(dtype):
    model = model_with(choose_attention("sdpa"), dtype).train()
    check_examples_apart(model, SDPA, "cpu")
    assert model.training, "left as it was"


@pytest.mark.numerical
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_refuses_a_kernel_that_lets_examples_see_each_other(monkeypatch, dtype):
    model = model_with(choose_attention("sdpa"), dtype)

    def leaking(module, query, key, value, mask, scaling=None, example_lengths=None, **kwargs):
        whole = [sum(example_lengths)]
        return attention.attend_per_example(module, query, key, value, mask, scaling=scaling, example_lengths=whole)

    from transformers import AttentionInterface

    monkeypatch.setattr(model.config, "_attn_implementation", "leaking")
    AttentionInterface.register("leaking", leaking)
    with pytest.raises(SocratesError, match="attention crosses the examples"):
        check_examples_apart(model, "leaking", "cpu")


def test_the_check_refuses_a_model_that_answers_nan(model):
    broken = model_with(SDPA)
    with torch.no_grad():
        broken.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(SocratesError, match="gives NaN or infinity"):
        check_examples_apart(broken, SDPA, "cpu")


def test_what_the_kernels_of_gpus_are_told():
    inputs = flat_inputs([3, 1, 2], attention.FLASH, "cpu")
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert inputs["cu_seq_lens_q"].tolist() == inputs["cu_seq_lens_k"].tolist() == [0, 3, 4, 6]
    assert inputs["cu_seq_lens_q"].dtype == torch.int32, "the kernel takes no other"
    assert inputs["max_length_q"] == inputs["max_length_k"] == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "else attention would cross examples"),
        ({"example_lengths": [4, 4]}, "else attention would cross examples"),
        ({"example_lengths": [9], "attention_mask": torch.zeros(1, 1, 9, 9)}, "mask given"),
        ({"example_lengths": [9], "sliding_window": 8}, "looks back 8 only"),
    ],
)
def test_what_would_cross_examples_is_refused(options, why):
    states = torch.zeros(1, 2, 9, 4)
    with pytest.raises(ValueError, match=why):
        attention.attend_per_example(None, states, states, states, **{"attention_mask": None, **options})
