"""What a training takes of a GPU's memory is estimated from above: never less than lives at once on a CPU; what no CPU
can tell (the GPU's own kernels, CUDA itself) is not covered."""

import dataclasses
import weakref

import pytest
import torch
from processes import ROOT
from tiny import SHAPES, adapted_model, lora
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from socrates.config import load_config
from socrates.inference.decoding import log_normalizer
from socrates.model.memory import ACTIVATIONS, WEIGHTS, layers_to_checkpoint, memory_parts
from socrates.model.sizing import QWEN2_14B

FULL = load_config(ROOT / "config_full_dataset.json")
TOKENS, ANSWERS = 96, 6
GIB = 2**30


def live_bytes(model, shape, checkpointed):
    """Bytes of all storages but parameters, at most, in a forward and backward pass."""

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

    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": False})
    base.disable_input_require_grads()
    for number, layer in enumerate(base.model.layers):
        layer.gradient_checkpointing = number < checkpointed
    ids = (torch.arange(TOKENS) % shape.vocabulary)[None]
    with Live() as live:
        logits = base(input_ids=ids, logits_to_keep=ANSWERS, use_cache=False).logits[0].float()
        (log_normalizer(logits) - logits[:, 0]).mean().backward()
    return live.peak


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("checkpointed", [0, 1, "all"])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("shape", [*SHAPES, dataclasses.replace(SHAPES[0], vocabulary=20_000, layers=8)])
def test_what_lives_at_once_is_never_more_than_the_estimate(shape, dropout, checkpointed, dtype):
    adapter, bf16 = lora(dropout=dropout), dtype == "bfloat16"
    training = FULL.training.model_copy(update={"micro_batch_tokens": TOKENS, "bf16": bf16})
    layers = shape.layers if checkpointed == "all" else checkpointed
    config = FULL.model_copy(update={"lora": adapter, "training": training})
    estimate = memory_parts(shape, config, layers)[ACTIVATIONS]
    # On a CPU an element of dropout's mask takes as much as one of the inputs, on a GPU a byte.
    inputs = sum(width for width, _ in shape.projections.values())
    masks = TOKENS * (1 if bf16 else 3) * inputs * (shape.layers - layers + 1) * bool(dropout)
    peak = live_bytes(adapted_model(shape, adapter, dtype), shape, layers) - masks
    assert peak <= estimate < 3.5 * peak


@pytest.mark.parametrize(("layers", "gib"), [(0, 58.7), (24, 45.6), (48, 32.5)])
def test_what_the_14b_takes_at_most(layers, gib):
    parts = memory_parts(QWEN2_14B, FULL, layers)
    assert parts[WEIGHTS] == 2 * 14_770_033_664
    assert sum(parts.values()) / GIB == pytest.approx(gib, abs=0.1)


@pytest.mark.parametrize(
    ("gib", "expected"), [(24, None), (32, None), (40, range(25, 48)), (48, range(5, 30)), (80, [0]), (141, [0])]
)
def test_as_few_layers_as_fit_are_checkpointed(gib, expected):
    layers = layers_to_checkpoint(QWEN2_14B, FULL, gib * GIB)
    assert layers is None if expected is None else layers in expected

    def fit(number):
        return sum(memory_parts(QWEN2_14B, FULL, number).values()) <= gib * GIB * 0.94

    assert all(fit(number) == (layers is not None and number >= layers) for number in range(49))
