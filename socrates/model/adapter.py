"""An adapter's `adapter_config.json`, checked before PEFT believes it: it matches patterns of it with the names of all
layers, imports what it names, and makes weights of the sizes that it says.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.schema import Line, Recorded, validate

ADAPTER_CONFIG, ADAPTER_WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_CONVERT = (
    "import sys, torch; from safetensors.torch import save_file; w = torch.load(sys.argv[1], 'cpu', weights_only=True)"
    "; save_file({name: values.clone() for name, values in w.items()}, sys.argv[2])"
)
# Matched at once: letters, dots, at most three groups of words, and at most three of `.*`, `.+`, `\d+` outside of them.
_WORD = r"(?:[\w-]|\\\.)+"
_PLAIN = rf"(?:[\w.-]|\\[.d]|\((?:\?:)?{_WORD}(?:\|{_WORD})*\))*"
_PATTERN = re.compile(rf"(?!(?:[^(]*\(){{4}})\^?{_PLAIN}(?:(?:\.|\\d)[*+]\??{_PLAIN}){{0,3}}\$?", re.ASCII)


def _matched_at_once(value: Any) -> Any:
    names = value if isinstance(value, list | dict) else [value or ""]
    if len(names) > 1000 or not all(isinstance(n, str) and len(n) <= 1000 and _PATTERN.fullmatch(n) for n in names):
        raise ValueError("holds what is no layer's name and no simple pattern of names; write a list of names")
    return value


Name = Annotated[Line, Field(max_length=1000)]
Names = Annotated[Any, AfterValidator(_matched_at_once)]
Rank = Annotated[int, Field(ge=1, le=16384)]


class AdapterConfig(Recorded):
    """What of `adapter_config.json` is read here or could do harm; the rest is PEFT's to check."""

    peft_type: Literal["LORA"]
    base_model_name_or_path: Name | None = None
    revision: Name | None = None
    r: Rank = 8
    target_modules: Names = None
    exclude_modules: Names = None
    modules_to_save: Names = None
    layers_pattern: Names = None
    rank_pattern: Annotated[dict[str, Rank], AfterValidator(_matched_at_once)] | None = None
    alpha_pattern: Names = None
    init_lora_weights: Literal[None, True, False, "gaussian", "orthogonal", "eva", "olora", "pissa", "loftq"] = True
    megatron_config: None = None  # names a module to import
    layer_replication: None = None  # makes layers
    alora_invocation_tokens: None = None  # looks in the prompt, of which an answer in a tree has only a part


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises a SocratesError where it cannot be an adapter's, or the adapter's weights are not beside it."""
    weights, pickled, remedy = folder / ADAPTER_WEIGHTS, folder / _PICKLED, "copy or download it again"
    if not weights.is_file():
        if pickled.is_file():
            command = shlex.join(["python", "-c", _CONVERT, str(pickled), str(weights)])
            remedy = f"{_PICKLED} is of a format that can run code, and is not read; this converts it:\n  {command}"
        raise SocratesError(f"{folder}: holds an {ADAPTER_CONFIG} but no {ADAPTER_WEIGHTS}; {remedy}")
    return validate(AdapterConfig, read_json(path := folder / ADAPTER_CONFIG, "adapter's config"), str(path))
