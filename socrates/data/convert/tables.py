"""Tables that other people have: a file of any usual format as blocks of rows, and what it says of its columns.

JSON arrays and Excel files are read as a whole; of the others one block at a time is in memory, whatever their size.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat

from socrates.data.convert.qualtrics import IMPORT_ID, read_qsf, without_tags
from socrates.data.records import as_number, read_jsonl
from socrates.errors import SocratesError, first_line
from socrates.files import no_constant, refuse_device, unique_keys

Block = dict[str, list[Any]]  # column -> a value for each row: None, a number or a text
_CELLS = 200_000  # of a block, about
_SAMPLE = 2**22  # bytes from which encoding and delimiter are found out
_EMPTY = frozenset(("", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "<NA>"))
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_LIBRARY_ERRORS = (
    *(OSError, ValueError, RecursionError, csv.Error, pa.ArrowException, zipfile.BadZipFile),
    *(pyreadstat.ReadstatError, pyreadstat.PyreadstatError),
)


class Known(NamedTuple):
    """What a file says of a column."""

    text: str | None = None
    scale: str | None = None
    labels: Mapping[Any, str] = {}
    missing: tuple[tuple[float, float], ...] = ()  # ranges of codes


@dataclass(frozen=True)
class Table:
    """A file that is open."""

    path: Path
    columns: tuple[str, ...]
    blocks: Callable[[], Iterator[Block]]  # reads its rows
    known: Mapping[str, Known] = field(default_factory=dict)
    first_row: int = 1  # the number of the first row of data, as a spreadsheet shows it
    notes: tuple[str, ...] = ()  # on how it is read


def open_table(path: Path, encoding: str | None = None, qsf: Path | None = None) -> Table:
    """Open a file by its ending; without ``qsf`` a Qualtrics export takes the only one beside it.

    Raises:
        SocratesError: no such file, of no known format, or it cannot be read; reading its blocks raises it too.
    """
    formats: dict[str, Callable[[], Table]] = {
        ".csv .tsv .tab .txt .dat": lambda: _open_delimited(path, encoding, qsf),
        ".json .jsonl .ndjson": lambda: _open_records(path),
        ".parquet": lambda: _open_parquet(path),
        ".xlsx .xlsm": lambda: _open_excel(path),
        ".sav .zsav .dta": lambda: _open_statistics(path, encoding),
    }
    opening = next((opening for endings, opening in formats.items() if path.suffix.lower() in endings.split()), None)
    if not path.is_file():
        refuse_device(path, "save it as a file first")
        raise SocratesError(f"{path}: {'is a folder; name the file in it' if path.is_dir() else 'no such file'}")
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
    except (UnicodeError, LookupError) as error:
        remedy = 'name its encoding in columns.json, such as "encoding": "cp1252"'
        raise SocratesError(f"{path}: cannot be read as text: {first_line(error)}; {remedy}") from error
    except _LIBRARY_ERRORS as error:
        raise SocratesError(f"{path}: cannot be read as {path.suffix[1:]}: {first_line(error)}") from error


def _rows_a_block(columns: Sized) -> int:
    return max(1, _CELLS // len(columns))


def _cleaned(values: Iterable[Any]) -> list[Any]:
    return [_clean(value) for value in values]


def _clean(value: Any) -> Any:
    """A value as it is meant: None where nothing stands there; 4 for "4" and 4.0; other texts without outer space."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else None if text in _EMPTY else text
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
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
    known, skipped = {}, 1
    notes = [f"read as {encoding} text, since it is no UTF-8"] if encoding == "cp1252" else []
    if imported and all(cell.startswith(IMPORT_ID) for cell in imported):
        skipped = 3
        known = {name: Known(without_tags(text)) for name, text in zip(header, asked, strict=True)}
        beside = [*path.parent.glob("*.qsf")]
        if qsf := qsf or (beside[0] if len(beside) == 1 else None):
            said = read_qsf(qsf, dict(zip(header, imported, strict=True)))
            known |= {name: Known(**more) for name, more in said.items()}
            notes.append(f"question texts, choices and recodes are those of {qsf}")

    def blocks() -> Iterator[Block]:
        with _reading(path), path.open(encoding=encoding, newline="") as file:
            rows = _rows(path, csv.reader(file, delimiter=delimiter, strict=True), len(header))
            rows = islice(rows, skipped, None)
            while block := list(islice(rows, _rows_a_block(header))):
                yield dict(zip(header, map(_cleaned, zip(*block, strict=True)), strict=True))

    return Table(path, tuple(header), blocks, known, 1 + skipped, tuple(notes))


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
        widths = [len(row) for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 50) if row]
    except csv.Error:
        return 0.0, 0
    return (widths.count(widths[0]) / len(widths), widths[0]) if widths and widths[0] > 1 else (0.0, 0)


def _rows(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    """The rows that are not empty, each with as many fields as the header: else their values would be others'."""
    for row in reader:
        if row and (len(row) < width or any(row[width:])):
            remedy = "a text with a delimiter or a line break in it needs quotes"
            raise SocratesError(
                f"{path}, line {reader.line_num}: has {len(row)} fields and the header {width}; {remedy}"
            )
        if any(row):
            yield row[:width]


# --- other formats -------------------------------------------------------------------------------------------------


def _open_records(path: Path) -> Table:
    """JSON objects, in a list or one a line; one in an object becomes columns such as "demographic.age"."""
    array: Any = None
    if path.suffix.lower() == ".json":
        array = json.loads(path.read_bytes(), object_pairs_hook=unique_keys, parse_constant=no_constant)
        if not isinstance(array, list) or not all(isinstance(row, dict) for row in array):
            raise SocratesError(f"{path}: must be a list of objects, one a row ([{{…}}, {{…}}]), or JSONL (.jsonl)")

    def rows() -> Iterator[dict[str, Any]]:
        for row in array or (row for _, row in read_jsonl(path, ours=False)):
            inner = {
                f"{name}.{key}": item for name in row if isinstance(row[name], dict) for key, item in row[name].items()
            }
            yield {name: value for name, value in row.items() if not isinstance(value, dict)} | inner

    columns = tuple(dict.fromkeys(chain.from_iterable(islice(rows(), 10_000))))

    def blocks() -> Iterator[Block]:
        left = rows()
        while block := list(islice(left, _rows_a_block(columns))):
            yield {name: _cleaned(row.get(name) for row in block) for name in columns}

    return Table(path, columns, blocks)


def _open_parquet(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        columns = pa.Table.from_batches([], file.schema_arrow).flatten().column_names

    def blocks() -> Iterator[Block]:
        with _reading(path), pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(_rows_a_block(columns), use_threads=False):
                flat = pa.Table.from_batches([batch]).flatten()
                yield {name: _cleaned(flat[name].to_pylist()) for name in columns}

    return Table(path, tuple(columns), blocks)


def _open_excel(path: Path) -> Table:
    with pd.ExcelFile(path, engine="openpyxl") as book:
        frame, others = book.parse(dtype=object, keep_default_na=False), book.sheet_names[1:]
    rows = {str(name).strip(): _cleaned(frame[name]) for name in frame}
    notes = (f"its first sheet alone is read, and not {', '.join(others)}",) if others else ()
    return Table(path, tuple(rows), lambda: iter([rows]), {}, 2, notes)


def _open_statistics(path: Path, encoding: str | None) -> Table:
    """SPSS, with the values that it holds to be missing, or Stata."""
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
            options["chunksize"] = _rows_a_block(meta.column_names)
            for columns, _ in pyreadstat.read_file_in_chunks(read, path, output_format="dict", **options):
                yield {name: _cleaned(values) for name, values in columns.items()}

    return Table(path, tuple(meta.column_names), blocks, known)
