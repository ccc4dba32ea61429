"""`optimizer.pt`: both AdamW moments of every adapter weight, gathered from DeepSpeed's shards.

The guide lists this file; DeepSpeed writes none: under ZeRO each rank saves its part of one flat vector. This is an
export for people and other software, by parameter name and in bf16; resuming reads the shards, which are exact.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "socrates.adamw_moments.1"


def write_optimizer_export(checkpoint: Path) -> Path:
    """Write `optimizer.pt` into a checkpoint that holds the shards of all ranks.

    Its contents: `format`, `step`, `updates` (how many steps the moments were gathered over: fewer than `step` once a
    run went on with a fresh optimizer), and `state`, a dict from parameter name to `exp_avg` and `exp_avg_sq` (bf16,
    in the parameter's shape).

    Raises:
        SocratesError: shards are missing, or are not of a ZeRO stage 1 or 2 run; or the file cannot be written.
    """
    import torch

    model_state, shards = _load_shards(checkpoint)
    moments = {
        name: merge_partitions(model_state, shards, lambda shard, group, name=name: _moment(shard, group, name))
        for name in ("exp_avg", "exp_avg_sq")
    }
    state = {
        parameter: {name: values[parameter].to(torch.bfloat16) for name, values in moments.items()}
        for parameter in moments["exp_avg"]
    }
    path = checkpoint / "optimizer.pt"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        step = model_state["global_steps"]
        updates = int(shards[0]["base_optimizer_state"]["state"][0].get("step", step))
        torch.save({"format": FORMAT, "step": step, "updates": updates, "state": state}, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise SocratesError(f"{path}: cannot write: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def merge_partitions(
    model_state: dict[str, Any],
    shards: list[dict[str, Any]],
    part: Callable[[dict[str, Any], int], Tensor],
) -> dict[str, Tensor]:
    """Put a flat vector that is partitioned over ranks together again, and cut it into parameters.

    Args:
        model_state: DeepSpeed's model state; its `param_shapes` holds, for each parameter group, name -> shape in
            the order of the flat vector.
        shards: each rank's `optimizer_state_dict`, by rank.
        part: gives a rank's partition of a group: 1-D, all ranks' of the same length.

    Raises:
        SocratesError: the vector is shorter than the parameters it should hold.
    """
    import torch

    parameters: dict[str, Tensor] = {}
    for group, shapes in enumerate(model_state["param_shapes"]):
        flat = torch.cat([part(shard, group) for shard in shards])
        paddings = (shards[0].get("param_alignment_paddings") or {group: [0] * len(shapes)})[group]
        offset = 0
        for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
            count = torch.Size(shape).numel()
            if offset + count > flat.numel():
                raise SocratesError(f"the shards end before {name}: {flat.numel()} values in group {group}")
            parameters[name] = flat[offset : offset + count].view(shape)
            offset += count + padding
    return parameters


def _moment(shard: dict[str, Any], group: int, name: str) -> Tensor:
    return shard["base_optimizer_state"]["state"][group][name]


def _load_shards(checkpoint: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import torch

    tag = checkpoint / "latest"
    folder = checkpoint / tag.read_text().strip() if tag.is_file() else checkpoint / "missing"
    found = {int(_RANK.search(p.name)[1]): p for p in folder.glob("*_optim_states.pt") if _RANK.search(p.name)}
    states = folder / "mp_rank_00_model_states.pt"
    if not states.is_file() or sorted(found) != list(range(len(found))) or not found:
        raise SocratesError(f"{checkpoint}: DeepSpeed's shards are not all there, found ranks {sorted(found)}")
    # Not weights_only: DeepSpeed stores objects of its own classes. The files were written by this very run.
    model_state = torch.load(states, map_location="cpu", weights_only=False)
    shards = [
        torch.load(found[rank], map_location="cpu", weights_only=False)["optimizer_state_dict"]
        for rank in sorted(found)
    ]
    if model_state["dp_world_size"] != len(shards):
        raise SocratesError(f"{checkpoint}: {len(shards)} shards of a run on {model_state['dp_world_size']} processes")
    return model_state, shards


_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00")
