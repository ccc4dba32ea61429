"""The files of a model: where they lie, and whether they are all there and whole. Nothing is loaded here.

A checkpoint folder holds an adapter only; its base model is found in the adapter's own config.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.hub import ModelFolder, find_model

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_COPY_AGAIN = "copy or download it again"
_SAMPLE = 4096  # bytes of each tensor


@dataclass(frozen=True)
class ModelFiles:
    """A base model's folder, and the folder of the adapter on it, if there is one."""

    base: ModelFolder
    base_name: str  # as named by the user or by the adapter's config
    adapter: Path | None


def locate_model(name: str | Path, revision: str | None = None, base_model: str | Path | None = None) -> ModelFiles:
    """Find a model or an adapter and its base model.

    Args:
        name: a model folder, a hub name, or a folder or hub name of an adapter.
        revision: of the hub's repository that ``name`` means; where ``name`` is a local adapter, of its base's.
        base_model: an adapter's base model, instead of the one that its config names.

    Raises:
        SocratesError: nothing there, or neither a model nor an adapter, or an adapter without its base model.
    """
    is_local_adapter = (Path(name).expanduser() / ADAPTER_CONFIG).is_file()
    found = find_model(name, None if is_local_adapter else revision)
    if not (found.path / ADAPTER_CONFIG).is_file():
        if not (found.path / "config.json").is_file():
            raise SocratesError(f"{name}: holds no model and no adapter: {contents(found.path)}")
        if base_model is not None:
            raise SocratesError(f"{name}: is a whole model and takes no base model ({base_model})")
        return ModelFiles(found, str(name), None)
    if not (found.path / ADAPTER_WEIGHTS).is_file():
        raise SocratesError(
            f"{name}: holds an {ADAPTER_CONFIG} but no {ADAPTER_WEIGHTS}; copy the checkpoint again, or take "
            f"another one: {contents(found.path)}"
        )
    config_file = found.path / ADAPTER_CONFIG
    config = read_json(config_file, "adapter's config")
    base_name = base_model or config.get("base_model_name_or_path")
    if not isinstance(base_name, str | Path) or not str(base_name):
        raise SocratesError(f'{config_file}: "base_model_name_or_path" is no name; say which base model it is')
    recorded = None if base_model is not None else config.get("revision")
    try:
        base = find_model(base_name, (revision if is_local_adapter else None) or recorded)
    except SocratesError as error:
        said_by = "as given" if base_model else f"as {config_file} says"
        raise SocratesError(
            f"{error}\n  This is the base model of {name}, {said_by}. "
            "A relative name starts at the current folder; another one can be given (--base-model)."
        ) from error
    if not (base.path / "config.json").is_file():
        raise SocratesError(f"{base_name}: the base model of {name} holds no model: {contents(base.path)}")
    return ModelFiles(base, str(base_name), found.path)


def check_weights(folder: Path) -> None:
    """Raise a SocratesError unless every weight file that a model's folder should hold is there and whole."""
    for file in weight_files(folder):
        check_safetensors(file)


def weight_files(folder: Path) -> list[Path]:
    """The files that a model's weights are read from, there or not; SocratesError where nothing says which."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        shards = read_json(index, "index of the weights").get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise SocratesError(f'{index}: has no "weight_map"; {_COPY_AGAIN}')
        return [folder / name for name in sorted({str(name) for name in shards.values()})]
    if single.is_file():
        return [single]
    raise SocratesError(f"{folder}: a model without *.safetensors weights: {contents(folder)}")


def check_safetensors(file: Path) -> None:
    """Raise a SocratesError unless a weight file is as long as its header says (its numbers are not read)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except FileNotFoundError as error:
        raise SocratesError(f"{file}: this weight file is missing; {_COPY_AGAIN}") from error
    except (SafetensorError, OSError) as error:
        raise SocratesError(f"{file}: damaged or cut off ({error}); {_COPY_AGAIN}") from error


def fingerprint(files: ModelFiles) -> str:
    """SHA-256 of what makes a model answer as it does, in a second, also for 30 GB.

    Of the configs and the adapter every byte; of the base model's weights the header and some kilobytes from the middle
    of each tensor: another training changes nearly all numbers of all tensors that it changes.

    Raises:
        SocratesError: a file is missing, damaged or cannot be read.
    """
    folder = files.base.path
    check_weights(folder)  # what follows believes the headers
    digest = hashlib.sha256()
    whole = [folder / "config.json", folder / "generation_config.json"]
    if files.adapter is not None:
        whole += [files.adapter / ADAPTER_CONFIG, files.adapter / ADAPTER_WEIGHTS]
    try:
        for path in whole:
            digest.update(f"{path.name}\0".encode() + (path.read_bytes() if path.exists() else b""))
        for path in weight_files(folder):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            for sample in _samples(path):
                digest.update(sample)
    except (OSError, ValueError) as error:
        raise SocratesError(f"{folder}: cannot read the model: {error}; {_COPY_AGAIN}") from error
    return digest.hexdigest()


def _samples(path: Path) -> Iterator[bytes]:
    """A weight file's header, and the middle of each of its tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
        yield header
        for name, tensor in sorted(json.loads(header).items()):
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                file.seek(8 + length + max(start, (start + end - _SAMPLE) // 2))
                yield file.read(min(_SAMPLE, end - start))


def contents(folder: Path) -> str:
    """What a folder holds, for a message."""
    names = [item.name + "/" * item.is_dir() for item in folder.iterdir()]
    return f"{folder}/ holds {some(names, 12) or 'nothing'}"


def some(names: Iterable[str], count: int = 3) -> str:
    """The first few names, and how many there are."""
    names = sorted(names)
    return ", ".join(names[:count]) + (f", … ({len(names)} in all)" if len(names) > count else "")
