"""Rows to token ids, once: a data file to its `tokenized-<fingerprint>/`.

A row that is longer than the limit gets its stimulus shortened (`shorten.py`), or is dropped: cutting it would cut its
answer; missing answers are left out. All are counted. A crash, a kill or a full disk leaves no unfinished folder there.
One process: 18,000 rows a second. `datasets.map` in several leaves these and their lock behind after a kill.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import chain, compress, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from socrates.config import PromptSettings, RunConfig
from socrates.console import progress
from socrates.data.contamination import nest_cells
from socrates.data.dataset import judged_by_person, sha256_of_part
from socrates.data.encode import BYTES_A_TOKEN, PromptEncoder
from socrates.data.people import People
from socrates.data.records import Answer, Cell, read_answers
from socrates.data.shorten import shorten_prompt
from socrates.data.tokenized import CELLS, INFO, PEOPLE, ROWS, TABLE, read_info, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import cannot_write, file_identity, sync_folder, try_lock, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("answer_tokens", pa.int32())])
_BATCH = 2048  # rows


@dataclass
class Counts:
    """What became of the rows."""

    rows: int = 0  # kept
    shortened: int = 0  # of the kept ones
    dropped: int = 0
    tokens: int = 0
    longest: int = 0  # tokens of a row
    missing_answers: int = 0  # left out


def tokenize_for(config: RunConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
    """What a training with this config reads; see `ensure_tokenized`. ``tokenizer``: the model's, if loaded."""
    if tokenizer is None:
        from socrates.model.load import load_tokenizer

        tokenizer = load_tokenizer(config.model_name, config.model_revision)
    return ensure_tokenized(config.train_file, tokenizer, config.prompt, config.training.max_length)


def ensure_tokenized(
    data_file: Path, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings, max_length: int
) -> Path:
    """The folder `tokenized-<fingerprint>/` beside the data file, made if it is not there yet.

    Safe to call from every rank at once: the first one works, the others wait for it and find the folder.

    Raises:
        SocratesError: no data, a bad row, no row within the length limit, no space to write, or a folder that is not
            whole.
    """
    before = data_file.is_file() and file_identity(data_file)  # others may tokenize for minutes until it is our turn
    fingerprint = tokenized_fingerprint(sha256_of_part(data_file), tokenizer, settings, max_length)
    folder = data_file.parent / f"tokenized-{fingerprint}"
    if folder.is_dir():  # before the lock, which a folder that may only be read does not let us take
        read_info(folder)
        return folder
    try:
        with (data_file.parent / ".tokenized.lock").open("w") as lock:
            while not try_lock(lock):  # the kernel frees it when this process ends, however it ends
                pass
            if not folder.is_dir():
                _write_folder(folder, data_file, before, PromptEncoder(tokenizer, settings), max_length)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _write_folder(
    folder: Path, data_file: Path, before: dict[str, int], encoder: PromptEncoder, max_length: int
) -> None:
    for left in folder.parent.glob(".tokenized-*.tmp"):  # of killed runs, and as large as a whole set
        shutil.rmtree(left, ignore_errors=True)
    print(f"Tokenizing {data_file} (once)", flush=True)
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        temporary.mkdir()
        counts, cells, people = _write_rows(
            temporary, data_file, encoder, max_length, judged_by_person(data_file.parent)
        )
        if file_identity(data_file) != before:
            raise SocratesError(f"{data_file}: was changed while it was tokenized; run the same command again")
        if counts.rows == 0:
            raise SocratesError(
                f"{data_file}: none of {counts.dropped} rows can be brought under max_length = {max_length} tokens"
            )
        info = {"data": data_file.name, "max_length": max_length, **asdict(counts)}
        write_json(temporary / CELLS, nest_cells(cells))
        if people:
            write_json(temporary / PEOPLE, {study: sorted(ids) for study, ids in people.items()})
        write_json(temporary / INFO, info | {"bytes": (temporary / ROWS).stat().st_size})
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_rows(
    folder: Path, data_file: Path, encoder: PromptEncoder, max_length: int, by_person: bool
) -> tuple[Counts, set[Cell], dict[str, set[str]]]:
    """Write both files of rows; what became of them, the cells of all that were read and, by person, their people."""
    counts, cells, people, missing = Counts(), set(), defaultdict(set), Counter()
    path, table = folder / ROWS, People()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as writer:
        answers = iter(progress(read_answers(data_file, missing), f"tokenizing {data_file}"))
        while batch := list(islice(answers, _BATCH)):
            cells.update(answer.cell for answer in batch)
            if many := next((answer for answer in batch if answer.response is None), None):
                raise SocratesError(
                    f"{data_file}, line {many.line}: holds the answers of many people, and training is on a person's; "
                    "such rows can only judge (val.jsonl, test.jsonl)"
                )
            for answer in batch if by_person else ():
                people[answer.cell.study_id].add(str(answer.participant))
            prompts = zip(batch, encoder.encode_all([answer.prompt for answer in batch]), strict=True)
            encoded = [_row(*one, encoder, max_length, counts) for one in prompts]
            table.extend(compress(batch, encoded))
            if rows := list(filter(None, encoded)):
                writer.write_batch(_record_batch(rows, counts))
    counts.missing_answers = missing.total()
    np.save(folder / TABLE, table.table())
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return counts, cells, people


def _row(answer: Answer, ids: bytes, encoder: PromptEncoder, limit: int, counts: Counts) -> tuple[bytes, bytes] | None:
    """The ids of a prompt and of its answer; None, and counted, where it does not fit and cannot be made to."""
    answer_ids = encoder.encode_answer(answer.response)
    room = limit * BYTES_A_TOKEN - len(answer_ids)
    if len(ids) > room:
        prompt = shorten_prompt(answer, lambda text: len(encoder.encode(text)) <= room)
        if prompt is None:
            counts.dropped += 1
            return None
        counts.shortened += 1
        ids = encoder.encode(prompt)
    return ids, answer_ids


def _record_batch(rows: list[tuple[bytes, bytes]], counts: Counts) -> pa.RecordBatch:
    supervised = np.array([len(answer_ids) for _, answer_ids in rows], np.int32) // BYTES_A_TOKEN
    lengths = np.array([len(prompt_ids) for prompt_ids, _ in rows], np.int32) // BYTES_A_TOKEN + supervised
    counts.rows += len(rows)
    counts.tokens += int(lengths.sum())
    counts.longest = max(counts.longest, int(lengths.max()))
    ids = np.frombuffer(b"".join(chain.from_iterable(rows)), np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.record_batch([pa.ListArray.from_arrays(offsets, ids), pa.array(supervised)], schema=_SCHEMA)
