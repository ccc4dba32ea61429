"""Activation checkpointing as far as it is needed: the largest micro-batch is tried once, before the first step.

A rank that runs out of memory in the middle of a step would leave the others waiting for its gradients. So the trial
talks to nobody: its gradients are asked of autograd itself, and no hook of DeepSpeed's runs. Afterwards the ranks
compare, and where one of them lacked memory all checkpoint more layers.
"""

from __future__ import annotations

import torch

from socrates.model.memory import MARGIN
from socrates.training.distributed import fail_together, gather, rank
from socrates.training.trainer import AdapterTrainer

_PARTS = 8  # of the layers, one more at each trial


def fit_micro_batches(trainer: AdapterTrainer, layers: int) -> None:
    """Checkpoint the first layers, so many or as many more as the memory of every rank makes necessary.

    Args:
        trainer: with its model on the device; called by all ranks, before the first step.
        layers: to begin with; more than all are all.

    Raises:
        SocratesError: the largest micro-batch fits nowhere, or not on every rank, with all layers checkpointed.
    """
    model = trainer.model.get_base_model()
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()  # which only the reentrant kind needs
    every = len(model.model.layers)
    layers = min(layers, every)
    while True:
        for number, layer in enumerate(model.model.layers):
            layer.gradient_checkpointing = number < layers
        if all(gather(_fits(trainer))):
            return
        if layers == every:
            fail_together(
                f"out of memory: a full micro-batch does not fit on every GPU, with all {every} layers checkpointed; "
                'lower "training.micro_batch_tokens" and "training.max_length", '
                "end what else runs on the GPUs, or rent larger ones"
            )
        layers = min(layers + -(-every // _PARTS), every)
        if rank() == 0:
            print(f"A micro-batch did not fit on every GPU: {layers} of {every} layers are checkpointed", flush=True)


def _fits(trainer: AdapterTrainer) -> bool:
    """Whether this rank has the memory for a forward and backward pass over the largest micro-batch."""
    device = trainer.args.device
    devices = [device] if device.type == "cuda" else []
    trainer.model.train()
    try:
        with torch.random.fork_rng(devices):
            memory = torch.cuda.get_device_properties(device).total_memory if devices else 0
            # Left free for DeepSpeed's buckets, and for what the allocator cannot use.
            reserve = torch.empty(int(MARGIN * memory), dtype=torch.uint8, device=device)
            weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
            torch.autograd.grad(trainer.largest_loss(), weights)
            del reserve
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        if devices:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
