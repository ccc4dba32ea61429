"""A run fitted to the machine that it is on: which kernels it takes. None changes what is learned beyond rounding.

What is asked for and is not there is refused by name; what is left to us is as fast as the machine allows. Memory is
`training/fitting.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.model.attention import FLASH, SDPA, choose_attention
from socrates.model.hub import find_model
from socrates.model.sizing import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KERNELS = {FLASH: "FlashAttention", SDPA: "torch's causal kernel, one example after another"}
_TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}


@dataclass(frozen=True)
class Fit:
    """How a run uses its machine."""

    attention: str  # a name from `choose_attention`
    liger: bool  # whether Liger's kernels replace the model's norms, rotations and MLP activations
    shape: ModelShape | None  # of the model; None where its architecture is not one whose costs are known
    text: str  # all that for a person, in one line


def fit_to_machine(config: RunConfig) -> Fit:
    """Choose what the config leaves open, for this process's device.

    Raises:
        SocratesError: what the config asks for is not there.
    """
    import torch

    gpu, training = torch.cuda.is_available(), config.training
    for problem in refused_settings(config, gpu):
        raise SocratesError(problem)
    attention = choose_attention(training.attn_implementation)
    liger = gpu and training.liger_kernels is not False and find_spec("liger_kernel") is not None
    path = find_model(config.model_name, config.model_revision, weights=False) / "config.json"
    shape = ModelShape.from_config(read_json(path, "model's config"), str(path))
    kernels = f"Attention: {_KERNELS[attention]}; Liger kernels: {'yes' if liger else 'no'}"
    layers = f"checkpointed layers: {training.checkpointed_layers or 0}, or as many more as memory makes necessary"
    return Fit(attention, liger, shape, f"{kernels}; {layers}")


def refused_settings(config: RunConfig, gpu: bool) -> Iterator[str]:
    """What a training with this config refuses on this machine before it loads a model, each with its remedy.

    ``gpu`` says whether there is one; asked of torch it takes seconds.
    """
    t = config.training
    packages = _TRACKERS.get(t.report_to, ())
    if packages and not any(find_spec(package) for package in packages):
        yield f'"training.report_to": {t.report_to} is not installed; pip install {packages[0]}, or write "none"'
    if t.attn_implementation == FLASH and not (gpu and find_spec("flash_attn")):
        yield (
            '"training.attn_implementation": flash_attention_2 needs the package flash-attn and a GPU; '
            'pip install flash-attn --no-build-isolation, or write "auto" or "sdpa"'
        )
    if t.liger_kernels and not (gpu and find_spec("liger_kernel")):
        yield (
            '"training.liger_kernels": true needs the package liger-kernel and a GPU; pip install liger-kernel, or '
            "write null: then they are used where they are installed"
        )


def use_liger_kernels(model: PreTrainedModel) -> None:
    """Put Liger's kernels into a model, in place; not its loss, since the head sees answers alone."""
    from transformers.integrations.liger import apply_liger_kernel

    wanted = {"rope": True, "rms_norm": True, "swiglu": True}
    apply_liger_kernel(model, {**wanted, "cross_entropy": False, "fused_linear_cross_entropy": False})
