"""What a training takes of a GPU's memory: what torch saves on a CPU, byte by byte, and how much lives at the worst
moment there; what no CPU can tell (the GPU's own kernels, CUDA itself) is not covered."""

import dataclasses
import json
import weakref

import pytest
from adapted import SHAPES, adapted_model, lora
from processes import ROOT, free_port, run_loaded

from socrates.config import PROJECTIONS, load_config, load_deepspeed
from socrates.inference.decoding import log_normalizer
from socrates.model.memory import (
    MemorySettings,
    layers_to_checkpoint,
    memory_prediction,
    memory_settings,
    saved_layer_bytes,
)
from socrates.model.sizing import QWEN2_14B

FULL = load_config(ROOT / "config_full_dataset.json")
DEEPSPEED = load_deepspeed(ROOT / "deepspeed_config.json", FULL)
TOKENS = 96
BUCKET = 50_000  # elements, as in zero_bytes.py
GIB = 2**30


def settings_for(dtype, **changes):
    """On a CPU dropout's mask has the inputs' type; on a GPU a byte an element."""
    settings = MemorySettings(tokens=TOKENS, answer_tokens=0, ranks=1, bf16=dtype == "bfloat16", **changes)
    return dataclasses.replace(settings, mask_bytes=settings.element)


def run_decoder(model, shape, dense_mask=False):
    import torch

    ids = (torch.arange(TOKENS) % shape.vocabulary)[None]
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()[None, None] if dense_mask else None
    return model.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


def saved_by_layer(model, shape, dense_mask):
    """Bytes of all that autograd saves while each decoder layer runs: every storage once, parameters left out."""
    from torch.autograd.graph import saved_tensors_hooks

    decoder, now, seen = model.get_base_model().model, [None], {}
    for number, layer in enumerate(decoder.layers):
        layer.register_forward_pre_hook(lambda module, inputs, number=number: now.__setitem__(0, number))
    decoder.norm.register_forward_pre_hook(lambda module, inputs: now.__setitem__(0, "norm"))
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def leave_out(module, inputs, positions):  # cosines and sines, which all layers read
        known.update(tensor.untyped_storage().data_ptr() for tensor in positions)

    decoder.rotary_emb.register_forward_hook(leave_out)

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            seen.setdefault(place, (tensor, now[0]))  # the tensor too, so that its place is not given away
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run_decoder(model, shape, dense_mask)
    sizes = dict.fromkeys([*range(shape.layers), "norm"], 0)
    for tensor, layer in seen.values():
        sizes[layer] += tensor.untyped_storage().nbytes()
    return {layer: size for layer, size in sizes.items() if layer != "norm"}


CASES = [
    (shape, dtype, dropout, PROJECTIONS, False)
    for shape in SHAPES
    for dtype in ("bfloat16", "float32")
    for dropout in (0.0, 0.05)
] + [
    (SHAPES[0], "bfloat16", 0.05, ("q_proj", "v_proj"), False),
    (SHAPES[0], "bfloat16", 0.0, ("q_proj", "v_proj"), False),
    (SHAPES[0], "bfloat16", 0.0, ("o_proj", "down_proj"), False),
    (SHAPES[0], "bfloat16", 0.05, ("gate_proj",), False),
    (SHAPES[0], "bfloat16", 0.05, PROJECTIONS, True),
    (SHAPES[1], "bfloat16", 0.0, PROJECTIONS, True),
    (SHAPES[2], "float32", 0.05, PROJECTIONS, True),
]


@pytest.mark.parametrize(("shape", "dtype", "dropout", "modules", "dense_mask"), CASES)
def test_what_is_saved_of_a_layer_is_what_torch_saves_to_the_byte(shape, dtype, dropout, modules, dense_mask):
    adapter = lora(dropout=dropout, target_modules=modules)
    settings = settings_for(dtype, dense_mask=dense_mask)
    found = saved_by_layer(adapted_model(shape, adapter, dtype), shape, dense_mask)
    for layer, size in found.items():
        assert size == TOKENS * saved_layer_bytes(shape, adapter, settings, first=layer == 0), layer


def live_bytes(model, shape, checkpointed, loss_of=lambda hidden: hidden[:, -1].float().sum()):
    """Bytes of all storages but parameters, at most, in a forward and backward pass."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.checkpoint import checkpoint

    class Live(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.sizes = {t.untyped_storage()._cdata: 0 for t in (*model.parameters(), *model.buffers())}
            self.now = self.peak = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            results = function(*args, **(kwargs or {}))
            for result in tree_leaves(results):
                storage = result.untyped_storage() if hasattr(result, "untyped_storage") else None
                if storage is not None and storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.free, storage._cdata)
            return results

        def free(self, key):
            self.now -= self.sizes.pop(key, 0)

    for layer in model.get_base_model().model.layers[:checkpointed]:
        run = layer.forward
        layer.forward = lambda hidden, run=run, **options: checkpoint(run, hidden, use_reentrant=False, **options)
    with Live() as live:
        hidden = run_decoder(model, shape)
        loss = loss_of(hidden)
        del hidden
        loss.backward()
    return live.peak


@pytest.mark.parametrize("checkpointed", [0, 1, "all"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_worst_moment_is_the_one_that_is_predicted(shape, dropout, checkpointed):
    adapter, settings = lora(r=1, dropout=dropout), settings_for("bfloat16")
    layers = shape.layers if checkpointed == "all" else checkpointed
    predicted = memory_prediction(shape, adapter, settings, layers)
    peak = live_bytes(adapted_model(shape, adapter, "bfloat16"), shape, layers)
    ratio = (predicted.activations + predicted.working) / peak
    # Where all layers are recomputed, the prediction adds the worst moment of any layer to that of the last one.
    assert 0.98 < ratio < (1.25 if checkpointed == "all" else 1.02)


def test_parts_add_up_and_are_what_the_14b_is_known_to_take():
    settings = memory_settings(FULL, DEEPSPEED)
    assert (settings.ranks, settings.zero_stage, settings.bucket_elements, settings.overlap) == (4, 2, 50_000_000, True)
    predicted = memory_prediction(QWEN2_14B, FULL.lora, settings)
    assert predicted.total == sum(dataclasses.astuple(predicted))
    assert predicted.weights == 2 * 14_770_033_664
    assert predicted.optimizer == 12 * 68_812_800 // 4  # fp32 weights and both moments, a quarter of them
    assert predicted.buckets == 2 * 2 * 50_000_000
    one = memory_prediction(QWEN2_14B, FULL.lora, dataclasses.replace(settings, ranks=1))
    assert one.optimizer == 12 * 68_812_800
    stage_1 = memory_prediction(QWEN2_14B, FULL.lora, dataclasses.replace(settings, zero_stage=1))
    assert stage_1.gradients > predicted.gradients and stage_1.buckets == 2 * predicted.buckets


@pytest.mark.parametrize(
    ("change", "part"),
    [({"tokens": 4096}, "activations"), ({"answer_tokens": 4000}, "working"), ({"dense_mask": True}, "activations")],
)
def test_more_work_at_once_takes_more(change, part):
    settings = memory_settings(FULL, DEEPSPEED)
    more = memory_prediction(QWEN2_14B, FULL.lora, dataclasses.replace(settings, **change))
    assert getattr(more, part) > getattr(memory_prediction(QWEN2_14B, FULL.lora, settings), part)


def test_ligers_kernels_save_less():
    settings = memory_settings(FULL, DEEPSPEED, liger=True)
    # Of a token and layer: two norms' inputs in bf16 instead of fp32, and SiLU's output not at all.
    spared = saved_layer_bytes(QWEN2_14B, FULL.lora, memory_settings(FULL, DEEPSPEED)) - saved_layer_bytes(
        QWEN2_14B, FULL.lora, settings
    )
    assert spared == 2 * 2 * QWEN2_14B.hidden + 2 * QWEN2_14B.inner


@pytest.mark.parametrize("gib", [24, 32, 40, 44, 48, 64, 80, 141])
def test_as_few_layers_as_fit_are_recomputed(gib):
    settings = memory_settings(FULL, DEEPSPEED)
    layers = layers_to_checkpoint(QWEN2_14B, FULL.lora, settings, gib * GIB)
    room = gib * GIB * 0.94
    if layers is None:
        assert memory_prediction(QWEN2_14B, FULL.lora, settings, QWEN2_14B.layers).total > room
        return
    assert memory_prediction(QWEN2_14B, FULL.lora, settings, layers).total <= room
    assert layers == 0 or memory_prediction(QWEN2_14B, FULL.lora, settings, layers - 1).total > room


def test_an_80_gb_gpu_recomputes_nothing_and_a_24_gb_one_cannot_hold_the_model():
    settings = memory_settings(FULL, DEEPSPEED)
    assert layers_to_checkpoint(QWEN2_14B, FULL.lora, settings, 80 * GIB) == 0
    assert layers_to_checkpoint(QWEN2_14B, FULL.lora, settings, 24 * GIB) is None
    assert 0 < layers_to_checkpoint(QWEN2_14B, FULL.lora, settings, 40 * GIB) < 48


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_logits_of_many_answers_are_the_worst_moment_where_they_are_large(dtype):

    shape = dataclasses.replace(SHAPES[0], vocabulary=20_000, layers=1)
    adapter, answers = lora(r=1), TOKENS // 2
    settings = dataclasses.replace(settings_for(dtype), answer_tokens=answers)
    model = adapted_model(shape, adapter, dtype)

    def loss_of(hidden):
        logits = model.get_base_model().lm_head(hidden[:, -answers:]).float()[0]
        return (log_normalizer(logits) - logits[:, 0]).mean()

    peak = live_bytes(model, shape, 0, loss_of)
    predicted = memory_prediction(shape, adapter, settings)
    assert (
        1 <= (predicted.activations + predicted.working) / peak < 1.35
    )  # the caller may keep the logits, ours did not


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_zeros_parts_are_what_deepspeed_keeps(stage):
    done = run_loaded(ROOT / "tests" / "zero_bytes.py", stage, free_port())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    settings = MemorySettings(
        tokens=64, answer_tokens=64, ranks=1, zero_stage=stage, bucket_elements=BUCKET, overlap=True
    )
    predicted = memory_prediction(SHAPES[0], lora(), settings)
    assert found["adapter"] == predicted.adapter
    assert found["optimizer"] == pytest.approx(predicted.optimizer, rel=0.001)
    # Between micro-batches gradients may be kept; this one pass had none to keep.
    assert found["gradients"] <= predicted.gradients and found["buckets"] <= predicted.buckets
