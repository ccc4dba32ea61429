"""How large things will be, before they are there: an adapter, a checkpoint, a model's download."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from socrates.config import LoraSettings, RunConfig
from socrates.files import read_json

# Bytes of a checkpoint for each adapter parameter: bf16 weights twice (adapter, model states), both AdamW moments in
# bf16 (optimizer.pt), fp32 weights and both moments (the shards); and its small files, the tokenizer foremost.
_BYTES_PER_PARAMETER, _SMALL_FILES = 2 + 2 + 4 + 12, 20 * 2**20
# Shapes of the models that the guide names, for a machine that has not downloaded them yet (their config.json).
_QWEN2_14B = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
}
_SHAPES = {"Qwen/Qwen2.5-14B-Instruct": _QWEN2_14B, "Qwen/Qwen2.5-14B": _QWEN2_14B}


def checkpoint_bytes(config: RunConfig, root: Path) -> int | None:
    """What one checkpoint takes on disk, about; None where the model's shape is not known here."""
    folder = root / config.model_name / "config.json"
    shape = read_json(folder, "model's config") if folder.is_file() else _SHAPES.get(config.model_name)
    try:
        return _BYTES_PER_PARAMETER * adapter_parameters(shape, config.lora) + _SMALL_FILES if shape else None
    except KeyError:
        return None


def adapter_parameters(shape: dict[str, Any], lora: LoraSettings) -> int:
    """Parameters of a LoRA adapter: r x (inputs + outputs) for each adapted layer (Hu et al. 2021, section 4.1).

    Args:
        shape: a model's config.json (Qwen2's names).
        lora: its rank and its layers.

    Raises:
        KeyError: the shape lacks a size.
    """
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    head = shape.get("head_dim") or hidden // shape["num_attention_heads"]
    queries, keys = head * shape["num_attention_heads"], head * shape["num_key_value_heads"]
    sizes = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    return shape["num_hidden_layers"] * lora.r * sum(sizes[name] for name in lora.target_modules)


def download_bytes(config: RunConfig, root: Path) -> int:
    """Bytes that the model's weights (bf16) will take, if they have to be downloaded; 0 if unknown or there already."""
    if (root / config.model_name).is_dir():
        return 0
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    if any((cache.expanduser() / f"models--{config.model_name.replace('/', '--')}").glob("snapshots/*/*.safetensors")):
        return 0
    size = re.search(r"(\d+(?:\.\d+)?)[Bb]\b", config.model_name)
    return int(float(size[1]) * 1e9 * 2.1) if size else 0
