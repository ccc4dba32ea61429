"""Rows to token ids, once: a data file to its `tokenized-<fingerprint>/`.

The data file is worked on in chunks of a fixed size, by several processes: memory does not grow with the number of
rows, and the bytes written do not depend on the number of processes. A row that is longer than the limit gets its
stimulus shortened (`shorten.py`), or is dropped: cutting it would cut its answer. Both are counted.

Covers: a crash, a kill or a full disk leaves no folder under the final name that is not whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from socrates.config import RunConfig
from socrates.console import progress
from socrates.data.chunks import Counts, Tokenized, Worker
from socrates.data.contamination import nest_cells
from socrates.data.encode import make_encoder, whole_encoder
from socrates.data.records import Cell, read_answers
from socrates.data.tokenized import CELLS, INFO, ROWS, read_info, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import file_identity, remembered_sha256, sync_folder, write_json
from socrates.model.chat import answer_token_ids, prompt_token_ids
from socrates.parallel import default_processes, map_in_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS_A_LINE = 100_000
_CHECKED = 100_000  # so many answers are remembered as compared


class _PiecesDiffer(Exception):
    """A row's ids, put together from pieces, are not those of the whole prompt."""


def tokenize_for(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase | None = None, processes: int | None = None
) -> Path:
    """What a training with this config reads: the folder beside its `train.jsonl`, made if it is not there yet.

    Args:
        config: names the data set, the model whose tokenizer is taken, the system message and the length limit.
        tokenizer: the model's, where it is loaded already.
        processes: that work at once (default: one a core, at most 8).

    Raises:
        SocratesError: no data, a bad row, no tokenizer, no row within the limit, or no space to write.
    """
    data_file = config.train_file
    if not data_file.is_file():
        raise SocratesError(f"{data_file}: no such data file; dataset_path must hold train.jsonl")
    identity = file_identity(data_file)
    if tokenizer is None:
        from socrates.model.load import load_tokenizer

        tokenizer = load_tokenizer(config.model_name, config.model_revision)
    return ensure_tokenized(
        data_file,
        remembered_sha256(data_file),
        tokenizer,
        config.prompt.system_message,
        config.training.max_length,
        processes,
        identity,
    )


def ensure_tokenized(
    data_file: Path,
    data_sha256: str,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    max_length: int,
    processes: int | None = None,
    identity: dict[str, int] | None = None,
) -> Path:
    """The folder `tokenized-<fingerprint>/` beside the data file, made if it is not there yet.

    Safe to call from every rank at once: the first one works, the others wait for it and find the folder.

    Args:
        data_file: the rows.
        data_sha256: of its bytes.
        tokenizer: the model's.
        system_message: None for none.
        max_length: tokens of a row, at most.
        processes: that work at once (default: one a core, at most 8).
        identity: of the data file (`file_identity`) before its digest was taken (default: as it is now).

    Raises:
        SocratesError: a bad row, no row within the length limit, no space to write, or a folder that is not whole.
    """
    fingerprint = tokenized_fingerprint(data_sha256, tokenizer, system_message, max_length)
    folder = data_file.parent / f"tokenized-{fingerprint}"
    if folder.is_dir():  # before the lock, which a folder that may only be read does not let us take
        read_info(folder)
        return folder
    try:
        identity = identity or file_identity(data_file)
        with _lock(data_file.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                processes = processes or default_processes()
                _write_folder(folder, data_file, tokenizer, system_message, max_length, processes, identity)
    except OSError as error:
        raise SocratesError(f"{folder}: cannot write: {error.strerror or error}{_remedy(error)}") from error
    return folder


def _write_folder(
    folder: Path,
    data_file: Path,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    max_length: int,
    processes: int,
    identity: dict[str, int],
) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")  # one name, under the lock: a killed run's is cleared away here
    _clear_leftovers(folder.parent)
    print(f"Tokenizing {data_file} (once)", flush=True)
    try:
        for encoder in (make_encoder(tokenizer, system_message), whole_encoder(tokenizer, system_message), None):
            if encoder is None:
                raise SocratesError(f"{tokenizer.name_or_path}: its tokenizer gives one text different ids each time")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            worker = Worker(data_file, encoder, max_length)
            try:
                counts, cells = _write_arrow(temporary / ROWS, worker, tokenizer, system_message, processes, identity)
                break
            except _PiecesDiffer:
                print("  this tokenizer's prompts cannot be cut into pieces: starting again, row by row", flush=True)
        if counts.rows == 0:
            raise SocratesError(
                f"{data_file}: none of {counts.dropped} rows can be brought under max_length = {max_length} tokens"
            )
        info = {"data": data_file.name, "max_length": max_length, **asdict(counts)}
        write_json(temporary / CELLS, nest_cells(cells))
        write_json(temporary / INFO, info | {"bytes": (temporary / ROWS).stat().st_size})
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrow(
    path: Path,
    worker: Worker,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    processes: int,
    identity: dict[str, int],
) -> tuple[Counts, set[Cell]]:
    import pyarrow as pa

    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("answer_tokens", pa.int32())])
    counts, said = Counts(), 0
    cells: set[Cell] = set()
    checked: set[int] = set()  # answers
    what, total = f"tokenizing {worker.data_file}", worker.number_of_chunks()
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
        closing(_tokenize_chunks(worker, processes, identity)) as done,
    ):
        for chunk in progress(done, what, total=total, unit=" chunks"):
            _compare(chunk, tokenizer, system_message, checked)
            if chunk.counts.rows:
                writer.write_batch(pa.ipc.read_record_batch(pa.py_buffer(chunk.batch), schema))
            counts = counts + chunk.counts
            cells |= chunk.cells
            if not sys.stderr.isatty() and counts.read // _ROWS_A_LINE > said:  # so that nobody takes it for dead
                said = counts.read // _ROWS_A_LINE
                print(f"  {said * _ROWS_A_LINE} rows", flush=True)
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return counts, cells


def _tokenize_chunks(worker: Worker, processes: int, identity: dict[str, int]) -> Iterator[Tokenized]:
    """All chunks of the worker's file, in order, made by so many processes.

    Args:
        worker: what is done with each.
        processes: at most.
        identity: of the file (`file_identity`) when its digest was taken: it must still be that one at the end.

    Raises:
        SocratesError: a bad line (file and line are named), no rows, the file changes meanwhile, or a process dies.
    """
    read = 0
    with _one_thread(), closing(map_in_order(worker.tokenize, range(worker.number_of_chunks()), processes)) as done:
        for result in done:
            if result is None:
                _find_the_bad_line(worker.data_file)
            read += result.counts.read
            yield result
    if file_identity(worker.data_file) != identity:
        raise _changed(worker.data_file)
    if read == 0:
        _find_the_bad_line(worker.data_file)


@contextmanager
def _one_thread() -> Iterator[None]:
    """No threads within the tokenizer's library; for pieces as short as these they cost more than they give."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _find_the_bad_line(data_file: Path) -> None:
    """Raise the error that reading the file row by row gives: it names the line."""
    for answer in read_answers(data_file):
        try:
            answer.prompt.encode()
        except UnicodeEncodeError as error:
            raise SocratesError(
                f"{data_file}, line {answer.line}: holds half a character (\\ud800 to \\udfff)"
            ) from error
    raise _changed(data_file)


def _changed(data_file: Path) -> SocratesError:
    return SocratesError(f"{data_file}: was changed while it was tokenized; run the same command again")


def _compare(
    chunk: Tokenized, tokenizer: PreTrainedTokenizerBase, system_message: str | None, checked: set[int]
) -> None:
    """Some prompts and each answer of a chunk against the way in which evaluation reads them."""
    for prompt, ids in chunk.samples:
        if prompt_token_ids(tokenizer, [prompt], system_message) != [ids]:
            raise _PiecesDiffer
    for value in chunk.answers.keys() - checked:
        if answer_token_ids(tokenizer, value) != chunk.answers[value]:
            raise _PiecesDiffer
        if len(checked) < _CHECKED:
            checked.add(value)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when this process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if os.environ.get("LOCAL_RANK", "0") == "0":  # one line a machine
                print("Waiting for another process that tokenizes the same rows", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_leftovers(folder: Path) -> None:
    """Remove what runs with other settings left when they were killed: hidden, and as large as a whole set."""
    for left in folder.glob(".tokenized-*.tmp"):
        with suppress(OSError), left.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space (4 bytes a token) and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "; check the folder's permissions, or work on a copy of the data"
    return ""
