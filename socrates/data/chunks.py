"""A data file in chunks of a fixed size, each tokenized on its own: by this process, or by several others in order.

Covers: what is made of a chunk depends on the file alone, not on who makes it; a bad line is reported with its number;
a file that changes meanwhile is refused.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from socrates.data.encode import BYTES_A_TOKEN, PromptEncoder
from socrates.data.records import Answer, Cell, parse_answer
from socrates.data.shorten import shorten_prompt
from socrates.errors import SocratesError

CHUNK_BYTES = 4 * 2**20  # of the data file; it sets the size of the batches written, so a change of it needs a VERSION
_SAMPLE = 512  # one row in so many is given back with its ids, to be compared


@dataclass(frozen=True)
class Counts:
    """What became of rows."""

    read: int = 0
    rows: int = 0  # kept
    shortened: int = 0  # of the kept ones
    dropped: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0  # tokens of a row

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        added = {name: max(v, theirs[name]) if name == "longest" else v + theirs[name] for name, v in mine.items()}
        return Counts(**added)


@dataclass(frozen=True)
class Tokenized:
    """A chunk's rows as a serialized Arrow record batch, and what is needed to trust them."""

    batch: bytes
    counts: Counts
    samples: list[tuple[str, list[int]]]  # prompts and their ids
    answers: dict[int, list[int]]  # all answers that occurred, and their ids
    cells: frozenset[Cell]  # of all its rows


@dataclass
class Worker:
    """What is done with every chunk of a file; sent to other processes."""

    data_file: Path
    encoder: PromptEncoder
    max_length: int
    chunk_bytes: int = CHUNK_BYTES

    def number_of_chunks(self) -> int:
        """How many chunks the file has; a chunk holds the lines that begin in its stretch of bytes."""
        return -(-self.data_file.stat().st_size // self.chunk_bytes)

    def tokenize(self, number: int) -> Tokenized | None:
        """Chunk ``number`` (from 0); None where a line of it is bad."""
        try:
            answers = [parse_answer(json.loads(line), self.data_file, 0) for line in self._lines(number)]
            for answer in answers:
                answer.prompt.encode()  # one that is made of the row's fields may hold half a character
        except (SocratesError, ValueError, TypeError, RecursionError, AttributeError):
            return None
        rows, samples, dropped, shortened = [], [], 0, 0
        for index, (answer, prompt_ids) in enumerate(
            zip(answers, self.encoder.encode([answer.prompt for answer in answers]), strict=True)
        ):
            answer_ids = self.encoder.encode_answer(answer.response)
            room = self.max_length * BYTES_A_TOKEN - len(answer_ids)
            if len(prompt_ids) > room:
                shorter = shorten_prompt(answer, lambda p, room=room: len(self.encoder.encode([p])[0]) <= room)
                if shorter is None:
                    dropped += 1
                    continue
                shortened += 1
                answer = replace(answer, prompt=shorter)
                prompt_ids = self.encoder.encode([shorter])[0]
            if index % _SAMPLE == 0:
                samples.append((answer.prompt, _as_list(prompt_ids)))
            rows.append((prompt_ids, answer_ids))
        return self._result(answers, rows, samples, shortened, dropped)

    def _result(
        self,
        answers: list[Answer],
        rows: list[tuple[bytes, bytes]],
        samples: list[tuple[str, list[int]]],
        shortened: int,
        dropped: int,
    ) -> Tokenized:
        import numpy as np
        import pyarrow as pa

        lengths = np.array([len(prompt) + len(answer) for prompt, answer in rows], np.int32) // BYTES_A_TOKEN
        supervised = np.array([len(answer) for _, answer in rows], np.int32) // BYTES_A_TOKEN
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
        ids = b"".join([part for row in rows for part in row])
        values = _int32_column(ids, int(offsets[-1]))
        column = pa.Array.from_buffers(
            pa.list_(pa.int32()), len(rows), [None, pa.py_buffer(offsets)], children=[values]
        )
        batch = pa.record_batch([column, _int32_column(supervised, len(rows))], names=["input_ids", "answer_tokens"])
        counts = Counts(
            read=len(answers),
            rows=len(rows),
            shortened=shortened,
            dropped=dropped,
            tokens=int(offsets[-1]),
            supervised_tokens=int(supervised.sum()),
            longest=int(lengths.max(initial=0)),
        )
        values_seen = {answer.response for answer in answers}
        return Tokenized(
            batch.serialize().to_pybytes(),
            counts,
            samples,
            {value: _as_list(self.encoder.encode_answer(value))[:-1] for value in sorted(values_seen)},
            frozenset(answer.cell for answer in answers),
        )

    def _lines(self, number: int) -> Iterator[str]:
        start, end = number * self.chunk_bytes, (number + 1) * self.chunk_bytes
        with self.data_file.open("rb") as file:
            if start:
                file.seek(start - 1)
                file.readline()  # of the chunk before, unless it ends right here
            while file.tell() < end and (line := file.readline()):
                if line.strip():
                    yield line.decode("utf-8")


def _int32_column(numbers: Any, count: int) -> Any:
    """From bytes or an array; `pa.array` of one would load pandas, half a second and 60 MB in every process."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(numbers)])


def _as_list(ids: bytes) -> list[int]:
    return array("i", ids).tolist()
