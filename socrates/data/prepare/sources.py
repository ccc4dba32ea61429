"""Sources: the published data set as a stream of raw rows, in shards (`Shard`) that can be read on their own.

A source is a folder of parquet files or of JSONL files (either layout), one such file, or a data set of the hub at one
commit. A shard is some row groups of a parquet file or some megabytes of a JSONL file: small enough to be done again
after an interruption, and read in batches, so that memory does not grow with the number of rows.
"""

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
PUBLISHED = "socratesft/SocSci210"
_KINDS = {".parquet": "parquet", ".jsonl": "JSONL"}
_SHARD_ROWS = 20_000
_SHARD_BYTES = 64 * 2**20


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


@dataclass(frozen=True)
class Source:
    """Where the published data lie.

    Attributes:
        name: as the user gave it.
        folder: that all paths are relative to.
        files: of the data, sorted; all parquet or all JSONL.
        commit: of the hub's repository; None for a local folder.
        revision: of the hub's repository, as the user gave it.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    commit: str | None = None
    revision: str | None = None

    @property
    def origin(self) -> dict[str, str | None]:
        """What was asked for, and which commit that meant."""
        return {"name": self.name, "revision": self.revision, "commit": self.commit}

    def find_beside(self, name: str) -> Path:
        """A file of `metadata/`, or beside the data files; SocratesError, with what is expected, if there is none."""
        above = self.folder.resolve().parent  # where the user named `data/` of the published folder, or a file in it
        beside = [self.folder / "metadata", self.folder, *(file.parent for file in self.files), above / "metadata"]
        folders = dict.fromkeys(beside)
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        raise SocratesError(
            f"{self.name}: no {name}, which names the training and evaluation rows; expected {self.folder}/metadata/"
            f"{name}, as published beside the data set {PUBLISHED}"
        )


@dataclass(frozen=True)
class Shard:
    """Row groups [start, end) of a parquet file, or the lines that begin in bytes [start, end) of a JSONL file."""

    path: Path
    start: int
    end: int

    @property
    def unit(self) -> str:
        """What a number in this file counts: "row" or "line"."""
        return "row" if self.path.suffix == ".parquet" else "line"


def open_folder(path: Path | str) -> Source:
    """A local folder, or one data file, as a source.

    Raises:
        SocratesError: nothing there, no data file in it, or parquet and JSONL files both.
    """
    name, path = str(path), Path(path).expanduser()
    if path.is_file():
        if path.suffix not in _KINDS:
            raise SocratesError(f"{name}: expected a .parquet or a .jsonl file, or a folder of them")
        return Source(name, path.parent, (path,))
    if not path.is_dir():
        raise SocratesError(f"{name}: no such folder or file, and no hub name (owner/data-set)")
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix in _KINDS and file.is_file() and not _is_aside(file.relative_to(path))
    )
    if not files:
        raise SocratesError(f"{name}: no .parquet and no .jsonl file in or below it")
    if len({file.suffix for file in files}) > 1:
        raise SocratesError(
            f"{name}: holds parquet and JSONL files both ({files[0].relative_to(path)}, …), which may be the same rows "
            "twice; name the folder, or the file, of one kind"
        )
    return Source(name, path, tuple(files))


def _is_aside(path: Path) -> bool:
    """Whether a file is in `metadata/` or hidden, or in a hidden folder (a hub client's cache, a run's leftovers)."""
    return path.parts[0] == "metadata" or any(part.startswith(".") for part in path.parts)


def cut_into_shards(source: Source) -> list[Shard]:
    """All shards of a source, in its order. SocratesError for a file that is damaged or cannot be read."""
    return [shard for file in source.files for shard in _shards_of(file)]


def byte_ranges(path: Path, size: int = _SHARD_BYTES) -> list[Shard]:
    """A JSONL file in shards of about ``size`` bytes."""
    total = _size(path)
    return [Shard(path, start, min(start + size, total)) for start in range(0, total, size)]


def _shards_of(path: Path) -> list[Shard]:
    if path.suffix == ".jsonl":
        return byte_ranges(path)
    shards, start, rows = [], 0, 0
    for i, size in enumerate(sizes := row_group_sizes(path)):
        rows += size
        if rows >= _SHARD_ROWS or i + 1 == len(sizes):
            shards.append(Shard(path, start, i + 1))
            start, rows = i + 1, 0
    return shards


def read_shard(shard: Shard, *, keys_only: bool = False) -> Iterator[tuple[int, dict[str, Any] | Unreadable | None]]:
    """Yield (number, raw row) of a shard; numbers count from 1 in the shard, an empty line counts and yields None.

    Args:
        shard: of a source.
        keys_only: read as little of a parquet file as tells cells apart.

    Raises:
        SocratesError: the file is gone, damaged, or cannot be read.
    """
    if shard.unit == "row":
        rows = read_row_groups(shard.path, range(shard.start, shard.end), keys_only=keys_only)
        yield from enumerate(rows, start=1)
        return
    for number, line in enumerate(read_lines(shard), start=1):
        yield number, parse_line(line) if line.strip() else None


def read_lines(shard: Shard) -> Iterator[bytes]:
    """The lines that begin within a shard of a JSONL file, the last one complete even where it ends outside."""
    try:
        with shard.path.open("rb") as file:
            position = shard.start
            if position:
                file.seek(position - 1)
                position += len(file.readline()) - 1  # the rest of a line that began before
            while position < shard.end and (line := file.readline()):
                position += len(line)
                yield line
    except OSError as error:
        raise SocratesError(f"{shard.path}: cannot read: {error.strerror or error}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
