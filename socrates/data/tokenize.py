"""Rows to token ids, once: a data file to its `tokenized-<fingerprint>/`.

A row that is longer than the limit gets its stimulus shortened (`shorten.py`), or is dropped: cutting it would cut its
answer. Both are counted. A crash, a kill or a full disk leaves no folder under the final name that is not whole.
Measured: 13,000 rows a second, as the `map` of `datasets` in one process. In two that has 19,000, but a kill leaves
these behind for good, with the lock, and Ctrl-C ends in a traceback.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from socrates.config import RunConfig
from socrates.console import progress
from socrates.data.contamination import nest_cells
from socrates.data.encode import BYTES_A_TOKEN, PromptEncoder, make_encoder
from socrates.data.records import Answer, Cell, read_answers
from socrates.data.shorten import shorten_prompt
from socrates.data.tokenized import CELLS, INFO, ROWS, read_info, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import cannot_write, file_identity, remembered_sha256, sync_folder, write_json
from socrates.model.chat import prompt_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("answer_tokens", pa.int32())])
_BATCH = 2048  # rows
_COMPARED_EVERY = 512  # rows


@dataclass
class Counts:
    """What became of rows."""

    read: int = 0
    rows: int = 0  # kept
    shortened: int = 0  # of the kept ones
    dropped: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0  # tokens of a row


def tokenize_for(config: RunConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
    """What a training with this config reads: the folder beside its `train.jsonl`, made if it is not there yet.

    Args:
        config: names the data set, the model whose tokenizer is taken, the system message and the length limit.
        tokenizer: the model's, where it is loaded already.

    Raises:
        SocratesError: no data, a bad row, no tokenizer, no row within the limit, or no space to write.
    """
    data_file = config.train_file
    if not data_file.is_file():
        raise SocratesError(f"{data_file}: no such data file; dataset_path must hold train.jsonl")
    if tokenizer is None:
        from socrates.model.load import load_tokenizer

        tokenizer = load_tokenizer(config.model_name, config.model_revision)
    return ensure_tokenized(data_file, tokenizer, config.prompt.system_message, config.training.max_length)


def ensure_tokenized(
    data_file: Path, tokenizer: PreTrainedTokenizerBase, system_message: str | None, max_length: int
) -> Path:
    """The folder `tokenized-<fingerprint>/` beside the data file, made if it is not there yet.

    Safe to call from every rank at once: the first one works, the others wait for it and find the folder.

    Args:
        data_file: the rows.
        tokenizer: the model's.
        system_message: None for none.
        max_length: tokens of a row, at most.

    Raises:
        SocratesError: a bad row, no row within the length limit, no space to write, or a folder that is not whole.
    """
    identity = file_identity(data_file)  # before the digest is taken
    fingerprint = tokenized_fingerprint(remembered_sha256(data_file), tokenizer, system_message, max_length)
    folder = data_file.parent / f"tokenized-{fingerprint}"
    if folder.is_dir():  # before the lock, which a folder that may only be read does not let us take
        read_info(folder)
        return folder
    try:
        with _lock(data_file.parent / ".tokenized.lock"):
            if not folder.is_dir():
                _write_folder(folder, data_file, tokenizer, system_message, max_length, identity)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _write_folder(
    folder: Path,
    data_file: Path,
    tokenizer: PreTrainedTokenizerBase,
    system_message: str | None,
    max_length: int,
    identity: dict[str, int],
) -> None:
    for left in folder.parent.glob(".tokenized-*.tmp"):  # of killed runs, and as large as a whole set
        shutil.rmtree(left, ignore_errors=True)
    print(f"Tokenizing {data_file} (once)", flush=True)
    # Threads of the tokenizer's library cost more than they give for pieces as short as these.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        temporary.mkdir()
        written = _write_rows(temporary / ROWS, data_file, make_encoder(tokenizer, system_message), max_length)
        if written is None:
            print("  this tokenizer's prompts cannot be cut into pieces: starting again, row by row", flush=True)
            encoder = PromptEncoder(tokenizer, system_message, frame=None)
            written = _write_rows(temporary / ROWS, data_file, encoder, max_length)
        counts, cells = written
        if file_identity(data_file) != identity:
            raise SocratesError(f"{data_file}: was changed while it was tokenized; run the same command again")
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


def _write_rows(
    path: Path, data_file: Path, encoder: PromptEncoder, max_length: int
) -> tuple[Counts, set[Cell]] | None:
    """Write the Arrow file; what became of the rows, and the cells of all that were read.

    None where a row's ids, put together from pieces, turn out not to be those of the whole prompt.
    """
    counts, cells = Counts(), set()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as writer:
        rows = iter(progress(read_answers(data_file), f"tokenizing {data_file}"))
        while answers := list(islice(rows, _BATCH)):
            cells.update(answer.cell for answer in answers)
            kept = list(_encode(answers, encoder, max_length, counts))
            if encoder.frame and not _agree(kept[::_COMPARED_EVERY], encoder):
                return None
            if kept:
                writer.write_batch(_record_batch(kept, counts))
            counts.read += len(answers)
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return counts, cells


_Encoded = tuple[str, bytes, bytes]  # a prompt, its ids, the ids of its answer and the end of the turn


def _encode(answers: list[Answer], encoder: PromptEncoder, max_length: int, counts: Counts) -> Iterator[_Encoded]:
    """The rows that fit, or can be made to; counts the others."""
    for answer, prompt_ids in zip(answers, encoder.encode([answer.prompt for answer in answers]), strict=True):
        prompt, answer_ids = answer.prompt, encoder.encode_answer(answer.response)
        room = max_length * BYTES_A_TOKEN - len(answer_ids)
        if len(prompt_ids) > room:
            prompt = shorten_prompt(answer, lambda text, room=room: len(encoder.encode([text])[0]) <= room)
            if prompt is None:
                counts.dropped += 1
                continue
            counts.shortened += 1
            [prompt_ids] = encoder.encode([prompt])
        yield prompt, prompt_ids, answer_ids


def _agree(rows: list[_Encoded], encoder: PromptEncoder) -> bool:
    """Whether prompts have the ids that evaluation reads."""
    whole = prompt_token_ids(encoder.tokenizer, [prompt for prompt, _, _ in rows], encoder.system_message)
    return all(np.frombuffer(ids, np.int32).tolist() == other for (_, ids, _), other in zip(rows, whole, strict=True))


def _record_batch(rows: list[_Encoded], counts: Counts) -> pa.RecordBatch:
    supervised = np.array([len(answer_ids) for _, _, answer_ids in rows], np.int32) // BYTES_A_TOKEN
    lengths = np.array([len(prompt_ids) for _, prompt_ids, _ in rows], np.int32) // BYTES_A_TOKEN + supervised
    counts.rows += len(rows)
    counts.tokens += int(lengths.sum())
    counts.supervised_tokens += int(supervised.sum())
    counts.longest = max(counts.longest, int(lengths.max()))
    ids = np.frombuffer(b"".join([part for _, *parts in rows for part in parts]), np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.record_batch([pa.ListArray.from_arrays(offsets, ids), pa.array(supervised)], schema=_SCHEMA)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when this process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if os.environ.get("LOCAL_RANK", "0") == "0":  # one line a machine
                print("Waiting for another process that tokenizes the same file", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
