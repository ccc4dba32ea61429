"""Operations of a training, against torch's own counter on real models; peaks and times."""

import pytest
from adapted import SHAPES, adapted_model, lora

from socrates.config import PROJECTIONS
from socrates.errors import SocratesError
from socrates.model.sizing import (
    QWEN2_14B,
    ModelShape,
    adapter_parameters,
    attended_pairs,
    expected_seconds,
    peak_flops,
    training_flops,
)

TOKENS, ANSWERS = 48, 5


def counted(model, shape, checkpointed=0):
    """What FlopCounterMode counts in one training step, by operator, the head on the last tokens alone."""
    import torch
    from torch.utils import flop_counter
    from torch.utils.checkpoint import checkpoint

    # The kernel that a CPU takes is not in torch's own list; it gets torch's formulas for the GPU's.
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {
        flash: lambda *shapes, **_: flop_counter.sdpa_flop_count(*shapes[:3]),
        backward: lambda *shapes, **_: flop_counter.sdpa_backward_flop_count(*shapes[:4]),
    }
    causal = model.get_base_model()
    for layer in causal.model.layers[:checkpointed]:
        run = layer.forward
        layer.forward = lambda hidden, run=run, **options: checkpoint(run, hidden, use_reentrant=False, **options)
    ids = (torch.arange(TOKENS) % shape.vocabulary)[None]
    with flop_counter.FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state[:, -ANSWERS:]
        causal.lm_head(hidden).float().logsumexp(-1).sum().backward()
    counts = {str(operator): number for operator, number in counter.get_flop_counts()["Global"].items()}
    attention = sum(number for operator, number in counts.items() if "scaled_dot_product" in operator)
    return sum(counts.values()) - attention, attention


@pytest.mark.parametrize("modules", [PROJECTIONS, ("q_proj", "v_proj"), ("o_proj",), ("down_proj", "up_proj")])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_products_are_torchs_count_to_the_last_operation(shape, modules):
    settings = lora(target_modules=modules)
    products, _ = counted(adapted_model(shape, settings), shape)
    assert products == training_flops(shape, settings, TOKENS, attended=0, answer_tokens=ANSWERS).model


@pytest.mark.parametrize("modules", [PROJECTIONS, ("o_proj",)])
def test_attention_is_torchs_count_but_for_the_pairs_that_a_causal_kernel_leaves_out(modules):
    shape, settings = SHAPES[0], lora(target_modules=modules)
    _, attention = counted(adapted_model(shape, settings), shape)
    without = training_flops(shape, settings, TOKENS, attended=0, answer_tokens=ANSWERS)
    all_pairs = training_flops(shape, settings, TOKENS, attended=TOKENS**2, answer_tokens=ANSWERS)  # as torch counts
    assert attention == all_pairs.with_recomputation - without.with_recomputation
    assert all_pairs.model < all_pairs.with_recomputation


@pytest.mark.parametrize("checkpointed", [1, 2, 3])
def test_recomputation_is_a_second_figure(checkpointed):
    shape, settings = SHAPES[0], lora()
    products, attention = counted(adapted_model(shape, settings), shape, checkpointed)
    flops = training_flops(
        shape,
        settings,
        TOKENS,
        attended=TOKENS**2,
        answer_tokens=ANSWERS,
        checkpointed_layers=checkpointed,
    )
    # torch's checkpoint stops once all that was saved is there again: the last product of a layer, by the second
    # factor of its last adapter, is not computed anew.
    spared = checkpointed * 2 * TOKENS * settings.r * shape.hidden
    assert products + attention == flops.with_recomputation - spared
    plain = training_flops(shape, settings, TOKENS, attended=TOKENS**2, answer_tokens=ANSWERS)
    assert flops.model == plain.model


def test_recomputing_all_layers_of_the_14b_costs_half_as_much_again():
    settings = lora(16)
    flops = training_flops(
        QWEN2_14B, settings, 2048, attended=10 * attended_pairs([205]), answer_tokens=25, checkpointed_layers=48
    )
    assert flops.with_recomputation / flops.model == pytest.approx(1.5, abs=0.02)


def test_examples_that_do_not_see_each_other_attend_to_fewer_pairs():
    assert attended_pairs([3, 2]) == 6 + 3
    assert attended_pairs([]) == 0


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
        ({"architectures": ["LlamaForCausalLM"]}, "not for LlamaForCausalLM"),
    ],
)
def test_a_config_without_a_shape_is_refused_by_name(change, message):
    config = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 2, "vocab_size": 100}
    assert ModelShape.from_config(config).head_size == 16
    with pytest.raises(SocratesError, match=message):
        ModelShape.from_config(config | change)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA RTX A6000", 154.8e12),
        ("NVIDIA RTX 6000 Ada Generation", 364e12),
        ("Quadro RTX 6000", None),
        ("Tesla V100-SXM2-16GB", None),
        ("NVIDIA A1000 Laptop GPU", None),
        ("", None),
    ],
)
def test_a_gpus_peak_is_that_of_its_data_sheet_or_unknown(name, peak):
    assert peak_flops(name) == peak


def test_time_is_operations_over_what_the_gpus_reach():
    assert expected_seconds(9e15, 2, 1e15, 0.5) == 9
    assert expected_seconds(9e15, 2, None) is None
