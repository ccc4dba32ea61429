"""Sources: the published data set as a stream of rows, in the order of its files.

A source is a folder of parquet files or of JSONL files (either layout), one such file, or a data set of the hub at one
commit, in the local cache. It is read in batches, so that memory does not grow with the number of rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from socrates.data.convert.columns import read_columns
from socrates.data.convert.rows import Conversion, convert_rows
from socrates.data.other_formats import wanted
from socrates.data.own_words import KEYS
from socrates.data.records import read_lines
from socrates.errors import SocratesError
from socrates.model.hub import check_revision, names_a_folder, snapshot

PUBLISHED = "socratesft/SocSci210"
# `reasoning` was written by a model and is never read; `text` and `instruction` repeat what other fields hold.
_COLUMNS = (
    *("study_id", "condition_num", "task_num", "participant", "sample_id", "demographic", "stimuli", "prompt"),
    *("response", "input", "output"),
    *KEYS,
)
_BATCH_ROWS = 1000
_ENDINGS = (".parquet", ".jsonl")  # a hub's data set that has both has the same rows twice: the first is taken
_NUMBERED = re.compile(r"-of-(\d+)\.\w+\Z")  # "train-00001-of-00012.parquet"


@dataclass(frozen=True)
class Source:
    """Where the published data lie.

    Attributes:
        name: as the user gave it.
        folder: that all paths are relative to.
        files: of the data, sorted; all parquet or all JSONL.
        commit: of the hub's repository; None for a local folder.
        revision: of the hub's repository, as the user gave it.
        columns: the `columns.json` of a file of another layout, which is converted as it is read.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    commit: str | None = None
    revision: str | None = None
    columns: Path | None = None

    @property
    def origin(self) -> dict[str, str | None]:
        """What was asked for, and which commit that meant."""
        return {"name": self.name, "revision": self.revision, "commit": self.commit}

    @property
    def unit(self) -> str:
        """What a number in its files counts: "row" or "line"."""
        return "row" if self.columns or self.files[0].suffix == ".parquet" else "line"

    def find_beside(self, name: str) -> Path:
        """A file of `metadata/`, or beside the data files; SocratesError, with what is expected, if there is none."""
        above = self.folder.resolve().parent  # where the user named `data/` of the published folder, or a file in it
        for folder in (self.folder / "metadata", self.folder, *(f.parent for f in self.files), above / "metadata"):
            if (folder / name).is_file():
                return folder / name
        raise SocratesError(
            f"{self.name}: no {name}, which names the training and evaluation rows; expected {self.folder}/metadata/"
            f"{name}, as published beside the data set {PUBLISHED}; data without lists: --split own (docs/splits.md)"
        )


# --- where they lie ------------------------------------------------------------------------------------------------


def open_source(name: str, revision: str | None = None, columns: Path | None = None) -> Source:
    """The data set that a name means: a folder or file of this machine, or a data set of the hub, downloaded first.

    Args:
        name: a folder, a file, or a hub name such as `socratesft/SocSci210` (the rule is `hub.names_a_folder`'s).
        revision: branch, tag or commit of the hub's repository; the default branch's newest commit if None.
        columns: the `columns.json` of a file that is to be converted.

    Raises:
        SocratesError: nothing there, no data in it, parquet and JSONL files both, or the hub cannot be reached, does
            not know it or does not let us read it.
    """
    check_revision(name, revision)
    if columns is not None:
        path = Path(name).expanduser()
        return Source(name, path.parent, (path,), columns=columns)
    return _open_folder(name) if names_a_folder(name) else _open_hub(name, revision)


def _open_folder(name: str) -> Source:
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix not in _ENDINGS:
            raise SocratesError(wanted(path, f"a {path.suffix or 'nameless'} file"))
        return Source(name, path.parent, (path,))
    if not path.is_dir():
        raise SocratesError(f"{name}: no such folder or file, and no hub name (owner/data-set)")
    parquet, jsonl = (_data_files(path, ending) for ending in _ENDINGS)
    if not parquet and not jsonl:
        raise SocratesError(f"{name}: no .parquet and no .jsonl file in or below it")
    if parquet and jsonl:
        raise SocratesError(
            f"{name}: holds parquet and JSONL files both ({jsonl[0].relative_to(path)}, …), which may be the same rows "
            "twice; name the folder, or the file, of one kind"
        )
    return Source(name, path, parquet or jsonl)


def _data_files(folder: Path, ending: str) -> tuple[Path, ...]:
    """The files of a kind, but for those in `metadata/`, and hidden ones (a hub client's cache, a run's leftovers)."""
    found, visited = [], set()
    for above, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(above)) in visited:  # a link to a folder above, or a second one to a folder
            folders.clear()
            continue
        visited.add(place)
        folders.sort()
        found += [Path(above, name) for name in files if name.endswith(ending)]
    names = [file.relative_to(folder) for file in sorted(found)]
    seen = [name for name in names if name.parts[0] != "metadata" and not any(part[0] == "." for part in name.parts)]
    if lost := next((name for name in seen if not (folder / name).is_file()), None):
        raise SocratesError(
            f"{folder / lost}: is no file, or a link to one that is not there; put it right or remove it"
        )
    return tuple(folder / name for name in seen)


def _open_hub(name: str, revision: str | None) -> Source:
    """A data set of the hub, once its data and split files are in the local cache; nothing else is downloaded."""
    commit = None
    for ending in _ENDINGS:
        folder = snapshot("data set", name, commit or revision, [f"*{ending}", "*_mapping.json"])
        commit = folder.name
        if files := _data_files(folder, ending):
            promised = max(int(match[1]) if (match := _NUMBERED.search(file.name)) else 0 for file in files)
            if len(files) < promised:  # of a cache that an older client filled, the hub's client cannot tell that
                raise SocratesError(
                    f"{name}: the local cache holds only a part of it ({len(files)} of {promised} files); run again "
                    "where the hub can be reached"
                )
            return Source(name, folder, files, commit, revision)
    raise SocratesError(f"{name}: the data set at commit {commit} has no .parquet and no .jsonl file")


# --- its rows ------------------------------------------------------------------------------------------------------


def read_rows(source: Source, max_bad_rows: int = 0) -> Iterator[tuple[Path, int, dict[str, Any] | bytes]]:
    """Yield (file, number, row) of a source; a row of JSONL is its line.

    Numbers count from 1 in each file; an empty line counts and is no row.

    Raises:
        SocratesError: a file is damaged or cannot be read, or more than ``max_bad_rows`` cannot be converted.
    """
    if source.columns is not None:
        found = Conversion()
        for number, row in enumerate(convert_rows(source.files, read_columns(source.columns), found), start=1):
            yield source.files[0], number, row
        found.refuse(max_bad_rows)
        for line in found.lines():
            print(line, flush=True)
        return
    for file in source.files:
        try:
            for number, row in read_lines(file) if file.suffix == ".jsonl" else enumerate(_rows_of(file), start=1):
                yield file, number, row
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise SocratesError(
                f"{file}: no parquet file, or one that is damaged or was cut off: {error}; download or copy it again"
            ) from error
        except OSError as error:
            raise SocratesError(f"{file}: cannot read: {error.strerror or error}; download or copy it again") from error


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    # a buffer, and not a whole row group at once: it may hold a million rows
    with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        if "study_id" not in columns:
            raise SocratesError(wanted(path, f"parquet with other columns ({', '.join(file.schema_arrow.names)})"))
        decimals = "decimal" in str(file.schema_arrow)
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            yield from map(_without_decimals, batch.to_pylist()) if decimals else batch.to_pylist()


def _without_decimals(value: Any) -> Any:
    """A row with whole numbers and floats in place of decimals, as databases write them."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return {key: _without_decimals(item) for key, item in value.items()} if isinstance(value, dict) else value
