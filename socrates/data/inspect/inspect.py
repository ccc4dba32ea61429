"""Inspection of a data file of human answers, shard by shard.

Covers: files of any size in either layout; memory grows by some tens of bytes a row. The same file gives the same
inspection whatever the number of processes and the size of the shards.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from socrates.console import progress
from socrates.data.inspect.record import Inspection
from socrates.data.inspect.rows import Found, inspect_shard, merge
from socrates.data.inspect.summary import summarise
from socrates.data.prepare.sources import byte_ranges
from socrates.errors import SocratesError
from socrates.files import file_identity
from socrates.parallel import map_in_order

if TYPE_CHECKING:
    from socrates.data.encode import PromptEncoder

SHARD_BYTES = 8 * 2**20


def inspect_file(
    path: Path | str,
    *,
    processes: int | None = None,
    encoder: PromptEncoder | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Inspection:
    """Count what is in a JSONL file.

    Args:
        path: of the file.
        processes: that read, at most (default: one a core, at most 8).
        encoder: to count tokens with.
        tokenizer: what the encoder's is called.
        max_length: tokens that a row may have in training.
        shard_bytes: about this much is read at a time by a process.

    Raises:
        SocratesError: no such file, a folder, a file that cannot be read or holds no usable row, or one that
            changes meanwhile.
    """
    path = Path(path)
    check_file(path)
    shards = byte_ranges(path, shard_bytes)
    before = file_identity(path)
    results = map_in_order(partial(inspect_shard, encoder=encoder), shards, processes)
    found = merge(progress(results, "inspecting", total=len(shards), unit=" shards"))
    if not path.is_file() or file_identity(path) != before:
        raise SocratesError(f"{path}: was changed while it was read; run the same command again")
    if not len(found.columns["cell"]):
        raise SocratesError(_no_rows(path, found))
    return summarise(path, found, tokenizer if encoder else None, max_length)


def check_file(path: Path) -> None:
    """SocratesError, with what to name instead, unless there is a file that may hold JSONL."""
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.jsonl"))
        choice = f"; choose one of its files: {', '.join(files)}" if files else ", and holds no .jsonl file"
        raise SocratesError(f"{path}: is a folder{choice}")
    if not path.exists():
        raise SocratesError(f"{path}: no such data file")
    if not path.is_file():
        raise SocratesError(f"{path}: is no ordinary file; write its rows into one, since several processes read it")
    if path.suffix == ".parquet":
        raise SocratesError(
            f"{path}: is a parquet file; scripts/prepare_data.py --source {path} makes JSONL files of it, which can be "
            "inspected"
        )


def _no_rows(path: Path, found: Found) -> str:
    if not found.bad:
        return f"{path}: holds no rows; expected one JSON object a line"
    line, reason = found.first_bad[0]
    return f"{path}: none of its {found.bad} rows can be used; line {line}: {reason}"
