"""A run fitted to the machine that it is on: which kernels it takes, how many layers use activation checkpointing.

None of these changes what is learned beyond rounding. Covers: what is asked for and is not there is refused by name;
what is left to us is as fast as the machine allows, and is printed. Does not cover: whether the GPUs are enough in
number (`train.check_gpus`), and what a machine lacks before it is started (`preflight`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.model.attention import FLASH, SDPA, VARLEN, check_attention, choose_attention
from socrates.model.hub import check_revision, find_model
from socrates.model.memory import layers_to_checkpoint, memory_estimate, memory_settings
from socrates.model.sizing import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_GIB = 2**30
_KERNELS = {
    FLASH: "FlashAttention",
    SDPA: "torch's causal kernel, one example after another",
    VARLEN: "torch's kernel for examples of different lengths",
}
_TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}


@dataclass(frozen=True)
class Fit:
    """How a run uses its machine.

    Attributes:
        attention: a name from `choose_attention`.
        liger: whether Liger's kernels replace the model's norms, rotations and MLP activations.
        checkpointed_layers: how many layers, from the first on, use activation checkpointing.
        shape: of the model; None where its architecture is not one whose costs are known.
        text: all that for a person, in one line.
    """

    attention: str
    liger: bool
    checkpointed_layers: int
    shape: ModelShape | None
    text: str


def fit_to_machine(config: RunConfig, deepspeed: dict[str, Any]) -> Fit:
    """Choose what the config leaves open, for this process's device.

    Raises:
        SocratesError: what the config asks for is not there.
    """
    check_tracker(config.training.report_to)
    attention = choose_attention(config.training.attn_implementation, config.training.bf16)
    liger = _choose_liger(config.training.liger_kernels)
    shape = _shape_of(config)
    layers, why = _choose_layers(config, deepspeed, shape)
    kernels = f"Attention: {_KERNELS[attention]}; Liger kernels: {'yes' if liger else 'no'}"
    text = f"{kernels}; checkpointed layers: {layers} ({why})"
    return Fit(attention, liger, layers, shape, text)


def check_tracker(name: str) -> None:
    """SocratesError where the experiment tracker's package is not installed."""
    packages = _TRACKERS.get(name, ())
    if packages and not any(find_spec(package) for package in packages):
        raise SocratesError(
            f'"training.report_to": {name} is not installed; pip install {packages[0]}, or write "none"'
        )


def check_liger(wanted: bool | None, gpu: bool) -> None:
    """SocratesError where Liger's kernels are asked for and their package or a GPU is not there."""
    if wanted and not (gpu and find_spec("liger_kernel")):
        raise SocratesError(
            '"training.liger_kernels": true needs the package liger-kernel and a GPU; pip install liger-kernel, or '
            "write null: then they are used where they are installed"
        )


def refused_settings(config: RunConfig, gpu: bool) -> list[str]:
    """What a training with this config would refuse on this machine before it loads a model, all of it.

    Args:
        config: of the run.
        gpu: whether there is one; asked of torch it takes seconds.
    """
    training, problems = config.training, []
    for check in (
        lambda: check_tracker(training.report_to),
        lambda: check_attention(training.attn_implementation, gpu, training.bf16),
        lambda: check_liger(training.liger_kernels, gpu),
        lambda: check_revision(config.model_name, config.model_revision),
    ):
        try:
            check()
        except SocratesError as error:
            problems.append(str(error))
    return problems


def use_liger_kernels(model: PreTrainedModel) -> None:
    """Put Liger's kernels into a model, in place; not its loss, since the head sees answers alone."""
    from transformers.integrations.liger import apply_liger_kernel

    wanted = {"rope": True, "rms_norm": True, "swiglu": True}
    apply_liger_kernel(model, {**wanted, "cross_entropy": False, "fused_linear_cross_entropy": False})


def _choose_liger(wanted: bool | None) -> bool:
    import torch

    gpu = torch.cuda.is_available()
    check_liger(wanted, gpu)
    return gpu and find_spec("liger_kernel") is not None if wanted is None else wanted


def _shape_of(config: RunConfig) -> ModelShape | None:
    path = find_model(config.model_name, config.model_revision, weights=False).path / "config.json"
    value = read_json(path, "model's config")
    return ModelShape.from_config(value, str(path)) if value.get("model_type") == "qwen2" else None


def _choose_layers(config: RunConfig, deepspeed: dict[str, Any], shape: ModelShape | None) -> tuple[int, str]:
    """How many to begin with, and why; where they turn out to be too few, `training/fitting.py` takes more."""
    import torch

    if config.training.checkpointed_layers is not None:
        wanted = config.training.checkpointed_layers
        return (wanted if shape is None else min(wanted, shape.layers)), "as the config says"
    if not torch.cuda.is_available():
        return 0, "on a CPU memory is not short"
    if shape is None:
        return 10**6, "all: what this architecture needs is not known"
    memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    settings = memory_settings(config, deepspeed)
    layers = layers_to_checkpoint(shape, config.lora, settings, memory)
    if layers is None:
        return shape.layers, "all: it may just not fit"
    need = memory_estimate(shape, config.lora, settings, layers).total
    return layers, f"of {shape.layers}; at most {need / _GIB:.0f} of {memory / _GIB:.0f} GiB"
