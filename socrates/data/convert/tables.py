"""Tables that other people have: a file of any usual format as blocks of rows, and what it says of its columns.

Covers: delimited text (delimiter and encoding found out, the three header rows of Qualtrics), JSON arrays, JSONL,
parquet, Excel, SPSS, Stata. JSON arrays and Excel are read as a whole; the others take the memory of a block,
whatever their size.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat

from socrates.data.convert.qualtrics import IMPORT_ID, read_qsf, without_tags
from socrates.data.records import as_number, read_jsonl
from socrates.errors import SocratesError, first_line
from socrates.files import no_constant, refuse_device, unique_keys

Block = dict[str, list[Any]]  # column -> a value for each row: None, a number or a text
_ROWS = 10_000  # of a block
_SAMPLE = 2**22  # bytes from which encoding and delimiter are found out
_EMPTY = frozenset(("", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "<NA>"))
_LIBRARY_ERRORS = (
    *(OSError, ValueError, RecursionError, csv.Error, pa.ArrowException, zipfile.BadZipFile),
    *(pyreadstat.ReadstatError, pyreadstat.PyreadstatError),
)
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True)
class Known:
    """What a file says of a column."""

    text: str | None = None
    scale: str | None = None
    labels: Mapping[Any, str] = field(default_factory=dict)
    missing: tuple[tuple[float, float], ...] = ()  # ranges of codes


@dataclass(frozen=True)
class Table:
    """A file that is open.

    Attributes:
        columns: its names, in its order.
        blocks: reads its rows.
        known: of columns about which it says something.
        first_row: the number of the first row of data, as a spreadsheet shows it.
        notes: on how it is read.
    """

    path: Path
    columns: tuple[str, ...]
    blocks: Callable[[], Iterator[Block]]
    known: Mapping[str, Known] = field(default_factory=dict)
    first_row: int = 1
    notes: tuple[str, ...] = ()


def open_table(path: Path, *, encoding: str | None = None, sheet: str | None = None, qsf: Path | None = None) -> Table:
    """Open a file by its ending.

    Args:
        path: of the file.
        encoding: of its text, if not the one found out.
        sheet: of an Excel file, if not the first.
        qsf: of the Qualtrics survey that it was exported from; the only one beside it, if there is one.

    Raises:
        SocratesError: no such file, of no known format, or it cannot be read; reading its blocks raises it too.
    """
    if not path.is_file():
        refuse_device(path, "save it as a file first")
        raise SocratesError(f"{path}: {'is a folder; name the file in it' if path.is_dir() else 'no such file'}")
    formats: dict[str, Callable[[], Table]] = {
        ".csv .tsv .tab .txt .dat": lambda: _open_delimited(path, encoding, qsf),
        ".json .jsonl .ndjson": lambda: _open_records(path),
        ".parquet": lambda: _open_parquet(path),
        ".xlsx .xlsm": lambda: _open_excel(path, sheet),
        ".sav .zsav .dta": lambda: _open_statistics(path, encoding),
    }
    opening = next((opening for endings, opening in formats.items() if path.suffix.lower() in endings.split()), None)
    if opening is None:
        raise SocratesError(f"{path}: must end in one of {' '.join(formats)}; save it as one of these")
    with _reading(path):
        table = opening()
    if repeated := [name for name, times in Counter(table.columns).items() if times > 1]:
        raise SocratesError(f'{path}: several columns are named "{repeated[0]}"; rename all but one')
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the libraries say of a file that they cannot read, as SocratesError."""
    try:
        yield
    except SocratesError:
        raise
    except (UnicodeError, LookupError) as error:
        remedy = 'name its encoding in columns.json, such as "encoding": "cp1252"'
        raise SocratesError(f"{path}: cannot be read as text: {first_line(error)}; {remedy}") from error
    except _LIBRARY_ERRORS as error:
        raise SocratesError(f"{path}: cannot be read as {path.suffix[1:]}: {first_line(error)}") from error


def _cleaned(values: Iterable[Any]) -> list[Any]:
    return [_clean(value) for value in values]


def _clean(value: Any) -> Any:
    """A value as it is meant: None where nothing stands there; 4 for "4" and 4.0; other texts without outer space."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else None if text in _EMPTY else text
    if value is None or isinstance(value, bool):
        return value if value is None else str(value)
    if isinstance(value, int | float | Decimal):
        return None if value != value else as_number(value) if abs(value) < 2**53 else value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if pd.isna(value) else as_number(value.item()) if hasattr(value, "item") else str(value)


# --- delimited text ------------------------------------------------------------------------------------------------


def _open_delimited(path: Path, encoding: str | None, qsf: Path | None) -> Table:
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    encoding = encoding or _find_encoding(sample)
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    if not text.strip():
        raise SocratesError(f"{path}: is empty")
    delimiter = max(",;\t|", key=lambda delimiter: _regularity(text, delimiter))
    header, asked, imported, *_ = [*islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 3), [], []]
    header = [name.strip() for name in header]
    notes = [f"read as {encoding} text, since it is no UTF-8"] if encoding == "cp1252" else []
    known, skipped = {}, 0
    if imported and all(cell.startswith(IMPORT_ID) for cell in imported):
        skipped = 2
        known = {name: Known(without_tags(text)) for name, text in zip(header, asked, strict=True)}
        beside = [*path.parent.glob("*.qsf")]
        if qsf := qsf or (beside[0] if len(beside) == 1 else None):
            said = read_qsf(qsf, dict(zip(header, imported, strict=True)))
            known |= {name: Known(**more) for name, more in said.items()}
            notes.append(f"question texts, choices and recodes are those of {qsf}")

    def blocks() -> Iterator[Block]:
        with _reading(path), path.open(encoding=encoding, newline="") as file:
            rows = _rows(path, csv.reader(file, delimiter=delimiter, strict=True), len(header))
            for _ in islice(rows, 1 + skipped):
                pass
            while block := list(islice(rows, _ROWS)):
                yield dict(zip(header, map(_cleaned, zip(*block, strict=True)), strict=True))

    return Table(path, tuple(header), blocks, known, 2 + skipped, tuple(notes))


def _find_encoding(sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # its last character may be cut
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _regularity(text: str, delimiter: str) -> tuple[float, int]:
    """How much of the first rows has as many fields as the header, and how many; zero for a single one."""
    try:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 50))
    except csv.Error:
        return 0.0, 0
    widths = [len(row) for row in rows if row]
    return (widths.count(widths[0]) / len(widths), widths[0]) if widths and widths[0] > 1 else (0.0, 0)


def _rows(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    """The rows that are not empty, each with as many fields as the header: else their values would be others'."""
    for row in reader:
        if row and (len(row) < width or any(row[width:])):
            raise SocratesError(
                f"{path}, line {reader.line_num}: has {len(row)} fields and the header {width}; a text with a "
                "delimiter or a line break in it needs quotes"
            )
        if any(row):
            yield row[:width]


# --- other formats -------------------------------------------------------------------------------------------------


def _open_records(path: Path) -> Table:
    """JSON objects, in a list or one a line; one in an object becomes columns such as "demographic.age"."""
    if path.suffix.lower() == ".json":
        rows = json.loads(path.read_bytes(), object_pairs_hook=unique_keys, parse_constant=no_constant)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SocratesError(f"{path}: must be a list of objects, one a row ([{{…}}, {{…}}]), or JSONL (.jsonl)")
    else:
        rows = None

    def flat() -> Iterator[dict[str, Any]]:
        yield from map(_flat, (row for _, row in read_jsonl(path, ours=False)) if rows is None else rows)

    columns = dict.fromkeys(chain.from_iterable(islice(flat(), _ROWS)))

    def blocks() -> Iterator[Block]:
        left = flat()
        while block := list(islice(left, _ROWS)):
            yield {name: _cleaned(row.get(name) for row in block) for name in columns}

    return Table(path, tuple(columns), blocks)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _open_parquet(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        columns = pa.Table.from_batches([], file.schema_arrow).flatten().column_names

    def blocks() -> Iterator[Block]:
        with _reading(path), pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(_ROWS, use_threads=False):
                flat = pa.Table.from_batches([batch]).flatten()
                yield {name: _cleaned(flat[name].to_pylist()) for name in columns}

    return Table(path, tuple(columns), blocks)


def _open_excel(path: Path, sheet: str | None) -> Table:
    with pd.ExcelFile(path, engine="openpyxl") as book:
        frame = book.parse(sheet or 0, dtype=object, keep_default_na=False)
        others = [name for name in book.sheet_names[1:] if not sheet]
    note = f'its first sheet is read; columns.json takes "sheet" for another ({", ".join(others)})'
    frame.columns = [str(name).strip() for name in frame.columns]
    rows = {name: _cleaned(frame[name]) for name in frame.columns}
    return Table(path, tuple(rows), lambda: iter([rows]), {}, 2, (note,) if others else ())


def _open_statistics(path: Path, encoding: str | None) -> Table:
    """SPSS or Stata; of SPSS with the values that it holds to be missing."""
    is_stata = path.suffix.lower() == ".dta"
    read = pyreadstat.read_dta if is_stata else pyreadstat.read_sav
    options = {"encoding": encoding, **({} if is_stata else {"user_missing": True})}
    _, meta = read(path, metadataonly=True, **options)
    known = {}
    for name in meta.column_names:
        labels = {_clean(value): label for value, label in meta.variable_value_labels.get(name, {}).items()}
        ranges = [(ends["lo"], ends["hi"]) for ends in meta.missing_ranges.get(name, ())]
        ranges = tuple(ends for ends in ranges if not isinstance(ends[0], str))
        known[name] = Known(meta.column_names_to_labels.get(name), None, labels, ranges)

    def blocks() -> Iterator[Block]:
        with _reading(path):
            chunks = pyreadstat.read_file_in_chunks(read, path, chunksize=_ROWS, output_format="dict", **options)
            for columns, _ in chunks:
                yield {name: _cleaned(values) for name, values in columns.items()}

    return Table(path, tuple(meta.column_names), blocks, known)
