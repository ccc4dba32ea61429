"""A JSONL file in shards of some megabytes, each read on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from socrates.errors import SocratesError


@dataclass(frozen=True)
class Shard:
    """The lines that begin in bytes [start, end) of a JSONL file."""

    path: Path
    start: int
    end: int


def byte_ranges(path: Path, size: int) -> list[Shard]:
    """A JSONL file in shards of about ``size`` bytes."""
    try:
        total = path.stat().st_size
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
    return [Shard(path, start, min(start + size, total)) for start in range(0, total, size)]


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
