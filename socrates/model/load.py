"""A name or a folder to a model that is ready for inference: weights, adapter, tokenizer, end tokens.

Covers: no weight is missing (the library would fill it with random numbers and only warn), the adapter belongs
to its base and changes what the model says, the tokenizer is the one that lies in the folder.
Does not cover: a checkpoint's manifest (`checkpoint.py`), which the caller verifies first.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from socrates.errors import LIBRARY_ERRORS, SocratesError, first_line
from socrates.model.adapter import ADAPTER_WEIGHTS
from socrates.model.chat import end_of_turn_id, prompt_token_ids
from socrates.model.hub import ModelFiles, check_safetensors, check_weights, contents, find_model, some

_PROBE = "How many? Only return an integer from 0 to 100, nothing else."
_NUMBERS = "0 1 23 456 7890 -12"  # to compare two tokenizers on


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, and what it takes to ask it."""

    model: Any  # a PreTrainedModel, or the PeftModel around one if it has an adapter
    tokenizer: PreTrainedTokenizerBase
    end_token_ids: tuple[int, ...]  # ascending; any of them ends an answer
    base_name: str  # the base model, as named by the user or by the adapter's config
    adapter: Path | None = None  # the folder of the adapter
    commit: str | None = None  # of the base model's hub repository

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The model without the adapter's wrapper; the adapter's layers stay in place inside it."""
        return self.model.get_base_model() if self.adapter is not None else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.causal_lm.device


def quiet_libraries(bars: bool = True) -> None:
    """Keep notes to library authors out of what people read, and progress bars (unless ``bars``) out of logs."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    if not (bars and sys.stderr.isatty()):
        logging.disable_progress_bar()


def load_model(files: ModelFiles, device: str | None = None) -> LoadedModel:
    """Load a model, or an adapter on its base model, for evaluation: no gradients, no dropout, sdpa.

    Args:
        files: from `locate_model`.
        device: by default the first GPU if there is one, else the CPU, where weights are float32.

    Raises:
        SocratesError: something is missing, damaged, or does not fit; says what to do.
    """
    saved = set() if files.adapter is None else set(adapter_weights(files.adapter))
    tokenizer = tokenizer_of(files)
    end_of_turn_id(tokenizer)  # an error in its template should not wait for 30 GB of weights
    place = torch.device(device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
    base = _model_in(files.base, "float32" if place.type == "cpu" else "auto", place)
    generation_ends = base.generation_config.eos_token_id if base.generation_config else None
    model = base if files.adapter is None else _add_adapter(base, files.adapter, saved)
    ends = end_token_ids(tokenizer, generation_ends)
    loaded = LoadedModel(model.eval(), tokenizer, ends, files.base_name, files.adapter, files.commit)
    _check_vocabulary(loaded)
    if files.adapter is not None:
        _check_adapter_acts(loaded)
    loaded.model.requires_grad_(False)  # last: to switch an adapter off and on makes it trainable again
    return loaded


def load_base_model(
    name: str, revision: str | None = None, *, dtype: str, attn_implementation: str, device: torch.device | None = None
) -> PreTrainedModel:
    """A whole model for training, by default in CPU memory.

    A GPU gets its weights one after another from the files: four processes that each loaded 30 GB into the machine's
    memory first would need more than many a rented machine has.

    Raises:
        SocratesError: it is missing, damaged or cannot be reached, or does not run with this attention.
    """
    model = _model_in(find_model(name, revision), dtype, device, attn_implementation)
    model.__dict__.pop("hf_device_map", None)  # for the Trainer a sign that it is spread over several devices
    return model


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    """An adapter's weights by name, in CPU memory; SocratesError where they are damaged, or one is not finite."""
    check_safetensors(file := folder / ADAPTER_WEIGHTS)
    weights = load_file(file)
    if bad := [name for name, values in weights.items() if not values.float().isfinite().all()]:
        raise SocratesError(f"{file}: {len(bad)} of its {len(weights)} weights hold NaN or infinity: {some(bad)}")
    return weights


def tokenizer_of(files: ModelFiles) -> PreTrainedTokenizerBase:
    """An adapter's own tokenizer, where its folder holds one; else its base model's. SocratesError if there is none."""
    own = files.adapter is not None and (files.adapter / "tokenizer_config.json").is_file()
    return _tokenizer_in(files.adapter if own else files.base)


def load_tokenizer(name: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A folder's or hub name's; SocratesError where it is missing, damaged, or not what its file describes."""
    return _tokenizer_in(find_model(name, revision, weights=False))


def end_token_ids(tokenizer: PreTrainedTokenizerBase, generation_ends: int | list[int] | None) -> tuple[int, ...]:
    """Every token that ends an answer, ascending: the tokenizer's own end token, the one that its chat template puts
    after the assistant's turn, and those of `generation_config.eos_token_id`, at any of which generation stops.
    """
    ends = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    ends.update([generation_ends] if isinstance(generation_ends, int) else generation_ends or [])
    return tuple(sorted(ends - {None}))


def _check_adapter_acts(loaded: LoadedModel) -> None:
    """A model that says exactly the same with and without its adapter is refused."""
    ids = torch.tensor(prompt_token_ids(loaded.tokenizer, [_PROBE]), device=loaded.device)
    with torch.inference_mode():
        with_adapter = loaded.model(input_ids=ids, use_cache=False).logits
        with loaded.model.disable_adapter():
            without = loaded.model(input_ids=ids, use_cache=False).logits
    if torch.equal(with_adapter, without):
        raise SocratesError(
            f"{loaded.adapter}: the adapter changes nothing: its lora_B weights are zero, as before the first training "
            "step, or sit on no layer that is used; evaluate a trained checkpoint"
        )


def _model_in(
    folder: Path, dtype: str, device: torch.device | None, attn_implementation: str = "sdpa"
) -> PreTrainedModel:
    check_weights(folder)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            device_map=None if device is None else {"": device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError as error:
        raise SocratesError(f"{folder}: the model does not fit into the memory of {device}") from error
    except (*LIBRARY_ERRORS, ImportError) as error:
        raise SocratesError(f"{folder}: cannot load the model: {first_line(error)}") from error
    if missing := info["missing_keys"]:
        raise SocratesError(
            f"{folder}: {len(missing)} weights are missing ({some(missing)}) and would be random; download it again"
        )
    # Exact answers need sdpa: with "eager" their boolean mask gives wrong numbers, and no error.
    if attn_implementation == "sdpa" and model.config._attn_implementation != "sdpa":
        raise SocratesError(f"{folder}: the model does not run with {attn_implementation} attention")
    return model


def _tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer_config.json").is_file():
        raise SocratesError(f"{folder}: no tokenizer (tokenizer_config.json): {contents(folder)}")
    described = folder / "tokenizer.json"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        numbers = tokenizer(_NUMBERS, add_special_tokens=False).input_ids  # what its settings hold shows in use
        expected = Tokenizer.from_file(str(described)) if described.is_file() else None
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise SocratesError(f"{folder}: cannot load the tokenizer: {first_line(error)}") from error
    if isinstance(tokenizer.chat_template, dict):  # several, by name
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if expected is None:
        return tokenizer
    expected.no_padding()
    expected.no_truncation()
    if numbers != expected.encode(_NUMBERS, add_special_tokens=False).ids:
        raise SocratesError(
            f"{described}: splits numbers otherwise than {type(tokenizer).__name__}, which the transformers "
            "library puts in its place for this type of model: it would be asked in tokens that it does not know"
        )
    return tokenizer


def _add_adapter(base: PreTrainedModel, folder: Path, saved: set[str]) -> Any:
    from peft import PeftModel, get_peft_model_state_dict  # which takes as long as all else, and only an adapter needs

    try:
        model = PeftModel.from_pretrained(
            base,
            str(folder),
            is_trainable=False,
            autocast_adapter_dtype=False,  # keep it in the base's dtype, as in training
            local_files_only=True,
            torch_device=str(base.device),
        )
    except Exception as error:  # whatever a made-up config brings PEFT to raise
        raise SocratesError(
            f"{folder}: the adapter does not fit its base model {base.name_or_path}: {first_line(error)}"
        ) from error
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    missing, strange = expected - saved, saved - expected - set(model.state_dict())
    if missing or strange:  # the library only warns of it
        raise SocratesError(
            f"{folder}: the adapter does not fit its base model {base.name_or_path}: weights that are missing: "
            f"{some(missing) or 'none'}; that have no place: {some(strange) or 'none'}"
        )
    return model


def _check_vocabulary(loaded: LoadedModel) -> None:
    """An id beyond the embedding would be a crash on a CPU and an aborted process on a GPU."""
    rows = loaded.causal_lm.get_input_embeddings().weight.shape[0]
    largest = max(len(loaded.tokenizer) - 1, *loaded.end_token_ids)
    if largest >= rows:
        raise SocratesError(
            f"{loaded.base_name}: its tokenizer gives ids up to {largest}, but the model knows {rows} tokens; "
            "tokenizer and model do not belong together"
        )
