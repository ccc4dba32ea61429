"""The published data set as a stream of raw rows, in pieces (`Piece`) that can be read on their own.

A source is a folder of parquet files or of JSONL files (either layout), one such file, or a data set of the hub at one
commit. A piece is some row groups of a parquet file or some megabytes of a JSONL file: small enough to be done again
after an interruption, and read in batches, so that memory does not grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.data.prepare.raw_rows import Unreadable, parse_line, read_row_groups, row_group_sizes
from socrates.errors import SocratesError

PUBLISHED = "socratesft/SocSci210"
_KINDS = {".parquet": "parquet", ".jsonl": "JSONL"}
_PIECE_ROWS = 20_000
_PIECE_BYTES = 64 * 2**20


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
            f"{self.name}: no {name}, which says which rows train and which judge; expected {self.folder}/metadata/"
            f"{name}, as published beside the data set {PUBLISHED}"
        )


@dataclass(frozen=True)
class Piece:
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


def cut_into_pieces(source: Source) -> list[Piece]:
    """All pieces of a source, in its order. SocratesError for a file that is damaged or cannot be read."""
    return [piece for file in source.files for piece in _pieces_of(file)]


def byte_ranges(path: Path, size: int = _PIECE_BYTES) -> list[Piece]:
    """A JSONL file in pieces of about ``size`` bytes."""
    total = _size(path)
    return [Piece(path, start, min(start + size, total)) for start in range(0, total, size)]


def _pieces_of(path: Path) -> list[Piece]:
    if path.suffix == ".jsonl":
        return byte_ranges(path)
    pieces, start, rows = [], 0, 0
    for i, size in enumerate(sizes := row_group_sizes(path)):
        rows += size
        if rows >= _PIECE_ROWS or i + 1 == len(sizes):
            pieces.append(Piece(path, start, i + 1))
            start, rows = i + 1, 0
    return pieces


def read_piece(piece: Piece, *, keys_only: bool = False) -> Iterator[tuple[int, dict[str, Any] | Unreadable | None]]:
    """Yield (number, raw row) of a piece; numbers count from 1 in the piece, an empty line counts and yields None.

    Args:
        piece: of a source.
        keys_only: read as little of a parquet file as tells cells apart.

    Raises:
        SocratesError: the file is gone, damaged as a whole, or cannot be read.
    """
    if piece.unit == "row":
        rows = read_row_groups(piece.path, range(piece.start, piece.end), keys_only=keys_only)
        yield from enumerate(rows, start=1)
        return
    for number, line in enumerate(read_lines(piece), start=1):
        yield number, parse_line(line) if line.strip() else None


def read_lines(piece: Piece) -> Iterator[bytes]:
    """The lines that begin within a piece of a JSONL file, the last one whole even where it ends outside."""
    try:
        with piece.path.open("rb") as file:
            position = piece.start
            if position:
                file.seek(position - 1)
                position += len(file.readline()) - 1  # the rest of a line that began before
            while position < piece.end and (line := file.readline()):
                position += len(line)
                yield line
    except OSError as error:
        raise SocratesError(f"{piece.path}: cannot read: {error.strerror or error}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
