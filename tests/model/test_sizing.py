"""Operations of a training, against torch's own counter on real models; peaks and times."""

import dataclasses

import pytest
import torch
from made_machine import SHAPE
from tiny import SHAPES, adapted_model, lora
from torch.utils.flop_counter import FlopCounterMode

from socrates.errors import SocratesError
from socrates.model.attention import SDPA, choose_attention, flat_inputs
from socrates.model.sizing import QWEN2_14B, ModelShape, adapter_parameters, peak_flops, training_flops


def counted(shape, settings, tokens):
    """What FlopCounterMode counts in one training step on one example, the head on its last three tokens alone."""
    with torch.device("meta"):  # sizes without numbers
        causal = adapted_model(shape, settings).get_base_model()
        causal.config._attn_implementation = choose_attention("sdpa")
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            inputs = flat_inputs([tokens], SDPA, "meta")
            hidden = causal.model(input_ids=ids, use_cache=False, **inputs).last_hidden_state[:, -3:]
            causal.lm_head(hidden).float().logsumexp(-1).sum().backward()
    by_name = counter.get_flop_counts()["Global"]
    # The scores, the only products of two activations: of all pairs here, of half of them by a causal kernel.
    return counter.get_total_flops() - by_name[torch.ops.aten.bmm] / 2


@pytest.mark.parametrize("tokens", [205, 371, 800])
def test_operations_are_torchs_count_within_three_percent_on_the_shape_of_the_14b(tokens):
    three, four = (dataclasses.replace(QWEN2_14B, layers=layers) for layers in (3, 4))
    settings = lora(16)  # and of one layer alone: 48 of them drown what is special of the first, and the head
    found = counted(four, settings, tokens) - counted(three, settings, tokens)
    expected = training_flops(four, settings, tokens) - training_flops(three, settings, tokens)
    assert expected == pytest.approx(found, rel=0.03)
    assert training_flops(four, settings, tokens, 4) == 1.5 * training_flops(four, settings, tokens), "all twice"


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_library(shape):
    settings = lora(target_modules=("q_proj", "down_proj"))
    model = adapted_model(shape, settings)
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapter == adapter_parameters(shape, settings)
    assert sum(p.numel() for p in model.parameters()) - adapter == shape.parameters
    assert ModelShape.from_config(model.get_base_model().config.to_dict()) == shape


def test_the_guides_model_and_adapter_have_their_known_numbers_of_parameters():
    assert QWEN2_14B.parameters == 14_770_033_664  # of its safetensors' headers
    assert adapter_parameters(QWEN2_14B, lora(16)) == 68_812_800  # counted by PEFT on the model itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, '"hidden_size" must be a whole number above 0, not None'),
        ({"vocab_size": True}, '"vocab_size"'),
        ({"num_key_value_heads": 0}, '"num_key_value_heads"'),
    ],
)
def test_a_config_without_a_shape_is_refused_by_name(change, message):
    assert ModelShape.from_config(SHAPE).head_size == 128
    with pytest.raises(SocratesError, match=message):
        ModelShape.from_config(SHAPE | change)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA RTX 6000 Ada Generation", 364e12),
        ("Tesla V100-SXM2-16GB", None),
        ("NVIDIA A1000 Laptop GPU", None),
        ("", None),
    ],
)
def test_a_gpus_peak_is_that_of_its_data_sheet_or_unknown(name, peak):
    assert peak_flops(name) == peak
