"""Rows to token ids and labels, once: an Arrow file named by the fingerprint of all that went into it.

Only the answer's tokens and the end-of-turn token carry a label; prompt tokens, and what the chat template puts after
the end of the turn, do not (the template's line break alone would be a third of the supervised tokens).
The file is mapped into memory by every rank. A row that is longer than the limit is left out and counted:
cutting it would cut its answer.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError
from socrates.files import read_json, sha256_json, sync_folder, write_json
from socrates.progress import progress
from socrates.prompts import answer_token_ids, end_of_turn_id, prompt_fingerprint, prompt_token_ids
from socrates.records import Answer, read_answers

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

VERSION = 1  # raise it when the same rows would give other ids or labels
IGNORED = -100  # the label of a token that carries no loss
_BATCH = 1000
_ROWS_A_LINE = 100_000


@dataclass(frozen=True)
class Example:
    """One row as the model sees it: token ids, and labels of the same length (`IGNORED` on the prompt)."""

    input_ids: list[int]
    labels: list[int]


def make_examples(
    answers: Iterable[Answer], tokenizer: PreTrainedTokenizerBase, system_message: str | None
) -> Iterator[Example]:
    """Tokenize answers, in order."""
    end = end_of_turn_id(tokenizer)
    responses: dict[int, list[int]] = {}
    for batch in _batches(answers, _BATCH):
        prompts = prompt_token_ids(tokenizer, [answer.prompt for answer in batch], system_message)
        for answer, prompt in zip(batch, prompts, strict=True):
            if answer.response not in responses:
                responses[answer.response] = [*answer_token_ids(tokenizer, answer.response), end]
            response = responses[answer.response]
            yield Example(prompt + response, [IGNORED] * len(prompt) + response)


def tokenized_fingerprint(
    data_sha256: str, tokenizer: PreTrainedTokenizerBase, system_message: str | None, max_length: int
) -> str:
    """16 hexadecimal digits over data, tokenizer, chat template, prompt text, length limit and `VERSION`."""
    return sha256_json(
        {
            "version": VERSION,
            "data": data_sha256,
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "prompt": prompt_fingerprint(tokenizer, system_message),
            "max_length": max_length,
        }
    )[:16]


def ensure_tokenized(
    data_file: Path,
    data_sha256: str,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    max_length: int,
) -> Path:
    """The folder `tokenized-<fingerprint>/` beside the data file, made if it is not there yet.

    Safe to call from every rank at once: the first one works, the others wait for it and find the folder.

    Raises:
        SocratesError: a bad row, no row within the length limit, or no space to write.
    """
    fingerprint = tokenized_fingerprint(data_sha256, tokenizer, system_message, max_length)
    folder = data_file.parent / f"tokenized-{fingerprint}"
    try:
        with _lock(data_file.parent / f".tokenized-{fingerprint}.lock"):
            if not folder.is_dir():
                _write_folder(folder, data_file, tokenizer, system_message, max_length)
    except OSError as error:
        raise SocratesError(f"{folder}: cannot write: {error.strerror or error}") from error
    return folder


def load_tokenized(folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """The rows (columns `input_ids`, `labels`), mapped into memory, and what is known about them."""
    from datasets import Dataset

    return Dataset.from_file(str(folder / "data.arrow")), read_json(folder / "info.json", "tokenized set's info")


def _write_folder(
    folder: Path,
    data_file: Path,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    max_length: int,
) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")  # one name, under the lock: a killed run's is cleared away here
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    print(f"Tokenizing {data_file} (once)", flush=True)
    try:
        examples = make_examples(_with_progress(read_answers(data_file), data_file), tokenizer, system_message)
        info = _write_arrow(temporary / "data.arrow", examples, max_length)
        if info["rows"] == 0:
            raise SocratesError(
                f"{data_file}: all {info['too_long']} rows are longer than max_length = {max_length} tokens"
            )
        write_json(temporary / "info.json", {"data": data_file.name, "max_length": max_length, **info})
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrow(path: Path, examples: Iterable[Example], max_length: int) -> dict[str, int]:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    schema = pa.schema([("input_ids", ids), ("labels", ids)])
    info = {"rows": 0, "too_long": 0, "tokens": 0, "longest": 0, "supervised_tokens": 0}
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in _batches(examples, _BATCH):
            kept = [example for example in batch if len(example.input_ids) <= max_length]
            info["too_long"] += len(batch) - len(kept)
            info["rows"] += len(kept)
            info["tokens"] += sum(len(example.input_ids) for example in kept)
            info["longest"] = max([info["longest"], *(len(example.input_ids) for example in kept)])
            info["supervised_tokens"] += sum(len(example.labels) - example.labels.count(IGNORED) for example in kept)
            columns = [[e.input_ids for e in kept], [e.labels for e in kept]]
            writer.write_batch(pa.record_batch([pa.array(c, ids) for c in columns], schema=schema))
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return info


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when this process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _with_progress(answers: Iterable[Answer], data_file: Path) -> Iterator[Answer]:
    """A progress bar on a terminal; in a log, a line now and then, so that nobody takes it for dead."""
    quiet = not sys.stderr.isatty()
    for count, answer in enumerate(progress(answers, f"tokenizing {data_file}"), start=1):
        if quiet and count % _ROWS_A_LINE == 0:
            print(f"  {count} rows", flush=True)
        yield answer
