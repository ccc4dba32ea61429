"""A file of another layout is refused with what it is, what is wanted, and the command that converts it."""

import json

import pytest
from made_tables import KINDS

from socrates.data.inspect import inspect_file
from socrates.data.prepare.sources import open_source, read_rows
from socrates.data.records import read_answers
from socrates.errors import SocratesError

FOUND = {
    **{"spss": "an SPSS file", "stata": "a Stata file", "excel": "an Excel file", "json_array": "a JSON array"},
    "parquet": "a parquet file",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_refuses_a_file_that_is_to_be_converted(kind, tmp_path):
    [file] = KINDS[kind](tmp_path).files
    other = file.rename(file.with_suffix(".jsonl")) if kind != "parquet" else file
    for read in (lambda: list(read_answers(other)), lambda: inspect_file(file if kind == "parquet" else other)):
        with pytest.raises(SocratesError) as refused:
            read()
        if kind != "parquet" or "prepare_data" not in str(refused.value):
            assert f"is {FOUND.get(kind, 'a table as text (CSV)')}; expected" in str(refused.value)
            assert '"condition_num": 0' in str(refused.value) and f"convert_data.py {other} " in str(refused.value)
    with pytest.raises(SocratesError, match=r"(?s)parquet with other columns|is a.*scripts/convert_data.py .* --guess"):
        list(read_rows(open_source(str(other))))


def test_jsonl_with_other_keys_is_told_by_its_keys(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps({"person": 1, "answer": 3}) + "\n", encoding="utf-8")
    with pytest.raises(SocratesError, match=r"is JSONL with other keys \(person, answer\); expected"):
        list(read_answers(path))
