"""Tables that other people have: a file of any usual format as rows, and what it says of its columns.

JSON arrays and Excel files are read as a whole; of the others some rows at a time, whatever their size.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
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
from socrates.data.scales import Scale
from socrates.data.scales.missing import says_missing
from socrates.errors import SocratesError, first_line
from socrates.files import no_constant, refuse_device, unique_keys

Row = Sequence[Any]  # a value for each column, as it stands there
_CELLS = 200_000  # that are read at a time, about
_SAMPLE = 2**22  # bytes from which encoding and delimiter are found out
_EMPTY = frozenset(("", ".", "NA", "N/A", "n/a", "#N/A", "#NULL!", "NaN", "nan", "NULL", "null", "<NA>"))
_WHOLE = re.compile(r"(0|-?[1-9]\d{0,17})(?:\.00?)?", re.ASCII)  # "1.000" may be a thousand
_TABLE_ERRORS = (csv.Error, pa.ArrowException, zipfile.BadZipFile, pyreadstat.ReadstatError, pyreadstat.PyreadstatError)


class Known(NamedTuple):
    """What a file says of a column."""

    text: str | None = None
    scale: Scale | None = None
    labels: Mapping[Any, str] = {}
    missing: tuple[tuple[Any, Any], ...] = ()  # ranges of codes

    def is_missing(self, value: Any) -> bool:
        """Whether the file holds a number or a text to be missing."""
        kind = isinstance(value, str)
        return any(kind == isinstance(low, str) and low <= value <= high for low, high in self.missing)

    def meaning(self, value: Any) -> Any:
        """The label of a value, where it has one; None for one that says that nothing is known."""
        meaning = self.labels.get(value, value)
        is_unknown = value is None or self.is_missing(value) or (meaning != value and says_missing(meaning))
        return None if is_unknown else meaning


class Table(NamedTuple):
    """A file that is open, to be read once."""

    path: Path
    columns: Sequence[str]
    rows: Iterator[Row]
    known: Mapping[str | None, Known] = {}
    first_row: int = 1  # the number of the first row of data, as a spreadsheet shows it
    notes: Sequence[str] = ()  # on how it is read
    lines: Sequence[int] = ()  # of a text: the line on which each row ends, the header's first, as far as it is read

    def peek(self) -> tuple[dict[str, list[Any]], Table]:
        """The first rows, as values of each column; and the table with all its rows."""
        first = [*islice(self.rows, _rows_at_a_time(self.columns))]
        values = {name: [clean(row[place]) for row in first] for place, name in enumerate(self.columns)}
        return values, self._replace(rows=chain(first, self.rows))


def open_table(path: Path, encoding: str | None = None, qsf: Path | None = None) -> Table:
    """Open a file by its ending; without ``qsf`` a Qualtrics export takes the only one beside it.

    SocratesError: no such file, of no known format, or it cannot be read; reading its rows raises it too.
    """
    formats: dict[str, Callable[[], Table]] = {
        ".csv .tsv .tab .txt .dat": lambda: _open_delimited(path, encoding, qsf),
        ".json .jsonl .ndjson": lambda: _open_records(path, encoding),
        ".parquet": lambda: _open_parquet(path),
        ".xlsx .xlsm": lambda: _open_excel(path, qsf),
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
    if not table.columns:
        raise SocratesError(f"{path}: is empty")
    if repeated := [name for name, times in Counter(table.columns).items() if times > 1]:
        raise SocratesError(f'{path}: several columns are named "{repeated[0]}"; rename all but one')
    known = {name: table.known.get(name, Known()) for name in (None, *table.columns)}
    return table._replace(rows=_guarded(path, table.rows), known=known)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the libraries say of a file that they cannot read, as SocratesError."""
    try:
        yield
    except (UnicodeError, LookupError) as error:
        remedy = 'name its encoding in columns.json, such as "encoding": "cp1252"'
        raise SocratesError(f"{path}: cannot be read as text: {first_line(error)}; {remedy}") from error
    except (OSError, ValueError, RecursionError, *_TABLE_ERRORS) as error:
        raise SocratesError(f"{path}: cannot be read as {path.suffix[1:]}: {first_line(error)}") from error


def _guarded(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    with _reading(path):
        yield from rows


def _rows_at_a_time(columns: Sized) -> int:
    return max(1, _CELLS // max(1, len(columns)))


def clean(value: Any) -> Any:
    """A value as it is meant: None for nothing, 4 for "4" and 4.0, other numbers, other texts without outer space."""
    if isinstance(value, str):
        text = value.strip()
        return int(whole[1]) if (whole := _WHOLE.fullmatch(text)) else None if text in _EMPTY else text
    if isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return None if value != value else as_number(value) if abs(value) < 2**53 else str(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if pd.isna(value) else as_number(value.item()) if hasattr(value, "item") else str(value)


# --- rows below a header -------------------------------------------------------------------------------------------


def _open_rows(path: Path, rows: Iterator[Row], qsf: Path | None, notes: list[str]) -> Table:
    """A table whose first row names its columns; of a Qualtrics export two more rows say what they are."""
    header, asked, imported = first = [*islice(rows, 3), [], [], []][:3]
    columns = [" ".join(str(name).split()) or f"column {number}" for number, name in enumerate(header, 1)]
    if not imported or not all(str(cell).startswith(IMPORT_ID) for cell in imported):
        return Table(path, columns, chain(filter(None, first[1:]), rows), {}, 2, notes)
    known = {name: Known(without_tags(str(text))) for name, text in zip(columns, asked, strict=True)}
    beside = [*path.parent.glob("*.qsf")]
    if qsf := qsf or (beside[0] if len(beside) == 1 else None):
        said = read_qsf(qsf, dict(zip(columns, imported, strict=True)))
        known |= {name: Known(**more) for name, more in said.items()}
        notes = [*notes, f"question texts, choices and recodes are those of {qsf}"]
    else:
        notes = [*notes, "a Qualtrics export without its survey: name its .qsf, which knows choices and recodes"]
    return Table(path, columns, rows, known, 4, notes)


def _open_delimited(path: Path, encoding: str | None, qsf: Path | None) -> Table:
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    encoding = encoding or _find_encoding(sample)
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    if "\0" in text[:1000]:
        raise UnicodeError("zeros stand between its letters, as in UTF-16")
    delimiter = max(",;\t|", key=lambda delimiter: _regularity(text, delimiter))

    notes = ["read as cp1252 text, since it is no UTF-8"] if encoding == "cp1252" else []
    lines: list[int] = []
    return _open_rows(path, _fields(path, encoding, delimiter, lines), qsf, notes)._replace(lines=lines)


def _fields(path: Path, encoding: str, delimiter: str, lines: list[int]) -> Iterator[list[str]]:
    """The rows that are not empty, each with as many fields as the header: else their values would be others'."""
    width = 0
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            width = width or len(row)
            if len(row) < width or any(row[width:]):
                remedy = "the first line must name the columns; a text with a delimiter or a line break needs quotes"
                found = f"has {len(row)} fields and the header {width}"
                raise SocratesError(f"{path}, line {reader.line_num}: {found}; {remedy}")
            lines.append(reader.line_num)
            yield row[:width]


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


def _open_excel(path: Path, qsf: Path | None) -> Table:
    with pd.ExcelFile(path, engine="openpyxl") as book:
        frame, others = pd.read_excel(book, header=None, dtype=object, na_filter=False), book.sheet_names[1:]
    notes = [f"its first sheet alone is read, and not {', '.join(others)}"] if others else []
    rows = (row for row in frame.itertuples(index=False, name=None) if any(cell != "" for cell in row))
    return _open_rows(path, rows, qsf, notes)


# --- tables that name their columns --------------------------------------------------------------------------------


def _open_records(path: Path, encoding: str | None) -> Table:
    """JSON objects, in a list or one a line; one in an object becomes columns such as "demographic.age"."""
    with path.open("rb") as file:
        is_lines = file.read(1000).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"
    if is_lines:
        rows = map(_flat, (row for _, row in read_jsonl(path, ours=False)))
    else:
        text = path.read_text(encoding) if encoding else path.read_bytes()
        array = json.loads(text, object_pairs_hook=unique_keys, parse_constant=no_constant)
        if not isinstance(array, list) or not all(isinstance(row, dict) for row in array):
            raise SocratesError(f"{path}: must be a list of objects, one a row ([{{…}}, {{…}}]), or an object a line")
        rows = map(_flat, array)
    first = [*islice(rows, 10_000)]
    columns = [*dict.fromkeys(chain.from_iterable(first))]
    return Table(path, columns, ([row.get(name) for name in columns] for row in chain(first, rows)))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    inner = {f"{name}.{key}": item for name in row if isinstance(row[name], dict) for key, item in row[name].items()}
    return {name: value for name, value in row.items() if not isinstance(value, dict)} | inner


def _open_parquet(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        columns = pa.Table.from_batches([], file.schema_arrow).flatten().column_names

    def rows() -> Iterator[Row]:
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(_rows_at_a_time(columns), use_threads=False):
                flat = pa.Table.from_batches([batch]).flatten()
                yield from zip(*(column.to_pylist() for column in flat.columns), strict=True)

    return Table(path, columns, rows())


def _open_statistics(path: Path, encoding: str | None) -> Table:
    """SPSS, with the values that it holds to be missing, or Stata."""
    is_stata = path.suffix.lower() == ".dta"
    read = pyreadstat.read_dta if is_stata else pyreadstat.read_sav
    options = {"encoding": encoding, **({} if is_stata else {"user_missing": True})}
    _, meta = read(path, metadataonly=True, **options)
    known = {}
    for name in meta.column_names:
        labels = {clean(value): label for value, label in meta.variable_value_labels.get(name, {}).items()}
        ranges = tuple((clean(ends["lo"]), clean(ends["hi"])) for ends in meta.missing_ranges.get(name, ()))
        known[name] = Known(meta.column_names_to_labels.get(name), None, labels, ranges)

    def rows() -> Iterator[Row]:
        options["chunksize"] = _rows_at_a_time(known)
        for columns, _ in pyreadstat.read_file_in_chunks(read, path, output_format="dict", **options):
            yield from zip(*columns.values(), strict=True)

    return Table(path, meta.column_names, rows(), known)
