"""`optimizer.pt`: both AdamW moments of every adapter weight, gathered from the ranks.

The guide lists this file; DeepSpeed writes none: under ZeRO each rank saves its part of one flat vector. This is an
export for people and other software, by parameter name and in bf16; resuming reads the shards, which are exact.
"""

from __future__ import annotations

from typing import Any

import torch

FORMAT = "socrates.adamw_moments.1"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def gather_moments(model: Any, optimizer: Any, step: int) -> dict[str, Any]:
    """What `optimizer.pt` holds; to be called by every rank, after at least one step.

    Args:
        model: that DeepSpeed trains under ZeRO stage 1 or 2.
        optimizer: the Trainer's.
        step: of the checkpoint.

    Returns:
        `format`, `step`, `updates` (how many steps the moments were gathered over: fewer than `step` once a run went on
        with a fresh optimizer), and `state`: parameter name -> `exp_avg` and `exp_avg_sq`, bf16, in its shape.
    """
    from deepspeed.utils import safe_get_full_optimizer_state  # late: see `leave_out_compiled_cpu_kernels`

    state = {
        name: {moment: safe_get_full_optimizer_state(p, moment).to("cpu", torch.bfloat16) for moment in _MOMENTS}
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    flat = next(iter(optimizer.optimizer.optimizer.state.values()))  # accelerate's wraps DeepSpeed's wraps torch's
    return {"format": FORMAT, "step": step, "updates": int(flat.get("step", step)), "state": state}
