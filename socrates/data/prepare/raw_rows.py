"""A line of JSONL, or row groups of a parquet file, to raw rows: dicts whose fields nobody has looked at yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError

# `reasoning` was written by a model and is never read; `text` and `instruction` repeat what other fields hold.
_COLUMNS = (
    *("study_id", "condition_num", "task_num", "participant", "sample_id", "demographic", "stimuli", "prompt"),
    *("response", "input", "output"),
)
_KEY_COLUMNS = ("study_id", "condition_num", "task_num")
_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Unreadable:
    """What stands where a row should be, and why it is none."""

    reason: str


def parse_line(line: bytes) -> dict[str, Any] | Unreadable:
    """The JSON object of a line, strictly: a key that stands there twice makes it unreadable."""
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8 text (byte {error.start} of the line)")
    except json.JSONDecodeError as error:
        cut = "" if line.endswith(b"\n") else "; the line has no end: the file may be cut off"
        return Unreadable(f"not JSON: {error.msg} (column {error.colno}){cut}")
    except (ValueError, RecursionError) as error:  # a key twice; brackets nested too deep; thousands of digits
        return Unreadable(f"cannot be read as JSON: {error}")
    return row if isinstance(row, dict) else Unreadable("must be a JSON object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'the key "{next(name for name in names if names.count(name) > 1)}" stands there twice')
    return row


def row_group_sizes(path: Path) -> list[int]:
    """Rows of each row group of a parquet file. SocratesError for a file that is damaged or cannot be read."""
    with _parquet(path) as file:
        return [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]


def read_row_groups(
    path: Path, groups: Sequence[int], *, keys_only: bool = False
) -> Iterator[dict[str, Any] | Unreadable]:
    """The rows of some row groups of a parquet file.

    Args:
        path: the file.
        groups: their numbers, from 0.
        keys_only: read no other columns than tell cells apart, where these are enough.

    Raises:
        SocratesError: the file is damaged or cannot be read.
    """
    import pyarrow as pa

    with _parquet(path) as file:
        there = set(file.schema_arrow.names)
        keys_only = keys_only and "task_num" in there
        columns = [name for name in (_KEY_COLUMNS if keys_only else _COLUMNS) if name in there]
        try:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=columns, use_threads=False):
                yield from _rows_of(batch)
        except (pa.ArrowException, OSError) as error:
            raise SocratesError(f"{path}: the file is damaged: {error}; download or copy it again") from error


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | Unreadable]:
    """The rows of a record batch, column by column: `to_pylist` of the batch would take several times as long."""
    try:
        columns = [_values(batch.column(i)) for i in range(batch.num_columns)]
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield Unreadable(f"not UTF-8 text (byte {error.start} of a field)")
            return
        for i in range(batch.num_rows):
            yield from _rows_of(batch.slice(i, 1))
        return
    names = batch.schema.names
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any) -> list[Any]:
    """An Arrow array as Python values; of a struct, the fields that are not null."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_struct(kind) and not column.null_count:
        names = [field.name for field in kind]
        fields = [_values(part) for part in column.flatten()]
        rows = zip(*fields, strict=True) if fields else iter([()] * len(column))
        return [{n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.to_numpy(zero_copy_only=False).tolist()
    if pa.types.is_integer(kind) and not column.null_count:
        return column.to_numpy().tolist()
    return column.to_pylist()


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # a buffer, and not the whole row group at once: it may hold a million rows
        return pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False, memory_map=False)
    except pa.ArrowInvalid as error:
        raise SocratesError(f"{path}: no parquet file, or one that was cut off: {error}; copy it again") from error
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
