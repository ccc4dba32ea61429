"""A model's name to the folder that holds it, a local one or the hub's cache, and whether its files are all there.

A name is looked up on the hub only where it can be no folder: it has exactly one slash, does not start with `.`, `/`
or `~`, and its first part is no folder here. So a mistyped `models/run/checkpoint-500` never becomes a request.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url, snapshot_download
from safetensors import SafetensorError, safe_open

from socrates.errors import EXIT_INTERRUPTED, SocratesError, first_line
from socrates.files import read_json
from socrates.model.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter_config

TIMEOUT_S = 10
_KINDS = {"model": "model", "data set": "dataset"}  # the hub's words
_CONTINUE = "run the same command again: complete files are kept"
_NEEDED_BUT_WEIGHTS = ["*.json", "*.txt", "*.jinja", "*.model"]  # and of weights no pickles, no other formats


def names_a_folder(name: str | Path) -> bool:
    """Whether a model's name means a local folder (which need not exist), by the rule of this module."""
    owner, *model = str(name).split("/")
    return len(model) != 1 or owner[:1] in ("", ".", "~") or Path(owner).is_dir()


def find_model(name: str | Path, revision: str | None = None, *, weights: bool = True, unasked: bool = False) -> Path:
    """The folder of a model or adapter; that of a hub name has its commit's name, and is downloaded first.

    Args:
        name: a folder, or a hub name such as `Qwen/Qwen2.5-14B-Instruct`.
        revision: branch, tag or commit of the hub's repository; the default branch if None.
        weights: whether they are needed too.
        unasked: whether the user has not named it: what is not in the local cache is not downloaded.

    Raises:
        SocratesError: no such folder; or the hub cannot be reached, or refuses. Says which, and what to do.
    """
    if not str(name):
        raise SocratesError("the name of the model is empty")
    if not names_a_folder(name):
        return snapshot("model", str(name), revision, _NEEDED_BUT_WEIGHTS + ["*.safetensors"] * weights, unasked)
    path = Path(name).expanduser()
    if not path.is_dir():
        what = "is a file, expected a model folder" if path.exists() else "no such model folder"
        there = contents(path.parent) if path.parent.is_dir() else f"there is no {path.parent}/ either"
        raise SocratesError(f"{name}: {what}; {there} (a hub name is owner/model, where no folder owner/ is here)")
    check_revision(name, revision)
    return path


def check_revision(name: str | Path, revision: str | None) -> None:
    """SocratesError where a revision is asked of a folder."""
    if revision is not None and names_a_folder(name):
        raise SocratesError(f"{name}: a local folder has no revisions; leave {revision!r} out")


def snapshot(what: str, name: str, revision: str | None, needed: list[str], unasked: bool = False) -> Path:
    """The local cache's folder of a commit (its name), downloaded first or, without a network, downloaded whole before.

    Args:
        what: "model" or "data set".
        name: of the repository.
        revision: branch, tag or commit; the default branch if None.
        needed: patterns of its files' names.
        unasked: whether only the cache is looked at, without a request.

    Raises:
        SocratesError: it cannot be had; says why, and what to do.
    """
    reached = not unasked and probe_hub(what, name, revision)
    options = {"repo_type": _KINDS[what], "revision": revision, "allow_patterns": needed}
    try:
        with _ctrl_c_ends_at_once():
            return Path(snapshot_download(name, **options, local_files_only=not reached))
    except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: of its other transport, xet
        if unasked:
            raise SocratesError(
                f"{name}: not in the local cache, and not downloaded, as only an adapter names it; if you trust it, "
                f"name it with --base-model {name}, or in a --config"
            ) from error
        if not reached and isinstance(error, errors.LocalEntryNotFoundError):
            raise SocratesError(
                f"{name}: no folder here, and cannot reach the hub (no network, or HF_HUB_OFFLINE is set), and the "
                f"{what} is not, or not completely, in the local cache; connect and run again, or name a local {what} "
                "folder"
            ) from error
        raise SocratesError(f"{name}: the download stopped: {first_line(error)}; {_CONTINUE}") from error


def probe_hub(what: str, name: str, revision: str | None) -> bool:
    """Whether the hub can be reached, by one request with a time limit (a download has none); arguments as `snapshot`.

    Raises:
        SocratesError: it answers that this cannot be had.
    """
    try:
        # Of a file, for which a gated repository wants a token; that it exists is not needed.
        url = hf_hub_url(name, "config.json", repo_type=_KINDS[what], revision=revision)
        get_hf_file_metadata(url, timeout=TIMEOUT_S)
    except (errors.EntryNotFoundError, errors.FileMetadataError):
        return True
    except errors.HFValidationError as error:
        raise SocratesError(f"{name}: neither a folder here nor a hub name (owner/name)") from error
    except errors.HfHubHTTPError as error:
        raise SocratesError(f"{name}: {_refusal(error, what, revision)}") from error
    except (errors.HTTPError, errors.OfflineModeIsEnabled):
        return False
    return True


def _refusal(error: errors.HfHubHTTPError, what: str, revision: str | None) -> str:
    """What the hub's answer that a name cannot be had means, and what to do."""
    if isinstance(error, errors.GatedRepoError):
        return f"the {what} is gated; accept its terms on its page on the hub, and set HF_TOKEN to your account's token"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the {what} exists, revision {revision} does not"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no folder here, and no such {what} on the hub, or it is private; check the spelling, and for a "
            f"private {what} set HF_TOKEN to a token that may read it"
        )
    status, remedy = error.response.status_code, f"HF_TOKEN is not valid, or may not read this {what}"
    if status not in (401, 403):
        remedy = f"try again later, or set HF_HUB_OFFLINE=1 if the {what} is in the local cache"
    return f"the hub answered with status {status}; {remedy}"


@contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """End the process at Ctrl-C; the hub's client would first wait for all files that are on their way."""

    def end(*_: object) -> None:
        print(f"\ninterrupted; {_CONTINUE}", file=sys.stderr, flush=True)
        os._exit(EXIT_INTERRUPTED)

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # a worker and nohup ignore it
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


_COPY_AGAIN = "copy or download it again"
_SAMPLE = 4096  # bytes of each tensor


@dataclass(frozen=True)
class ModelFiles:
    """A base model's folder, and that of the adapter on it."""

    base: Path
    base_name: str  # as named by the user or by the adapter's config
    adapter: Path | None

    @property
    def commit(self) -> str | None:
        """Of the base model's repository on the hub; None for a local folder."""
        return None if names_a_folder(self.base_name) else self.base.name


def locate_model(
    name: str | Path,
    revision: str | None = None,
    base_model: str | Path | None = None,
    known_bases: Collection[str | None] = (),
) -> ModelFiles:
    """Find a model, or an adapter and its base model.

    Args:
        name: folder or hub name of either.
        revision: of the hub's repository that ``name`` means; where ``name`` is a local adapter, of its base's.
        base_model: an adapter's base model, instead of the one that its config names.
        known_bases: hub names that may be downloaded where only the adapter names them.

    Raises:
        SocratesError: nothing there, or neither a model nor an adapter, or an adapter without its base model.
    """
    is_local_adapter = (Path(name).expanduser() / ADAPTER_CONFIG).is_file()
    found = find_model(name, None if is_local_adapter else revision)
    config_file = found / ADAPTER_CONFIG
    if not config_file.is_file():
        if not (found / "config.json").is_file():
            raise SocratesError(f"{name}: holds no model and no adapter: {contents(found)}")
        if base_model is not None:
            raise SocratesError(f"{name}: is a full model and takes no base model ({base_model})")
        return ModelFiles(found, str(name), None)
    config = read_adapter_config(found)
    base_name = base_model or config.base_model_name_or_path
    if base_name is None:
        raise SocratesError(f'{config_file}: "base_model_name_or_path" is no name; say which base model it is')
    recorded, unasked = (None, False) if base_model else (config.revision, base_name not in known_bases)
    try:
        base = find_model(base_name, (revision if is_local_adapter else None) or recorded, unasked=unasked)
    except (SocratesError, OSError) as error:  # OSError: a path with a name that is too long
        named = "" if base_model else f" that {config_file} names; another one can be given (--base-model)"
        raise SocratesError(f"{error}\n  This is the base model of {name}{named}") from error
    if not (base / "config.json").is_file():
        raise SocratesError(f"{base_name}: the base model of {name} holds no model: {contents(base)}")
    return ModelFiles(base, str(base_name), found)


def check_weights(folder: Path) -> list[Path]:
    """The files that a model's weights are read from; a SocratesError unless each is there and complete."""
    index, files = folder / "model.safetensors.index.json", [folder / "model.safetensors"]
    if index.is_file():
        shards = read_json(index, "index of the weights").get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise SocratesError(f'{index}: has no "weight_map"; {_COPY_AGAIN}')
        files = [folder / name for name in sorted({str(name) for name in shards.values()})]
    elif not files[0].is_file():
        raise SocratesError(f"{folder}: a model without *.safetensors weights: {contents(folder)}")
    for file in files:
        check_safetensors(file)
    return files


def check_safetensors(file: Path) -> None:
    """Raise a SocratesError unless a weight file is as long as its header says (its numbers are not read)."""
    try:
        with safe_open(file, framework="np"):
            pass
    except FileNotFoundError as error:
        raise SocratesError(f"{file}: this weight file is missing; {_COPY_AGAIN}") from error
    except (SafetensorError, OSError) as error:
        raise SocratesError(f"{file}: damaged or cut off ({error}); {_COPY_AGAIN}") from error


def fingerprint(files: ModelFiles) -> str:
    """SHA-256 of what makes a model answer as it does, in a second, also for 30 GB.

    Of the base model's weights it takes some kilobytes from the middle of each tensor: another training changes nearly
    all numbers of all tensors that it changes.

    Raises:
        SocratesError: a file is missing, damaged or cannot be read.
    """
    folder = files.base
    weights = check_weights(folder)  # what follows believes the headers
    digest = hashlib.sha256()
    whole = [folder / "config.json", folder / "generation_config.json"]
    if files.adapter is not None:
        whole += [files.adapter / ADAPTER_CONFIG, files.adapter / ADAPTER_WEIGHTS]
    try:
        for path in whole:
            digest.update(f"{path.name}\0".encode() + (path.read_bytes() if path.exists() else b""))
        for path in weights:
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
