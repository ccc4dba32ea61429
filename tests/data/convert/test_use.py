"""Programs take tables: converted at the command line; prepared, inspected and scored as the rows made of them."""

import json
import subprocess
import sys
import time

import pytest
from made_tables import FAIR, KINDS, LONG, long_rows, write_table
from processes import ROOT, run_script

from socrates.data.convert.columns import Columns
from socrates.data.convert.rows import convert_to
from socrates.data.prepare.prepare import PrepareSettings, prepare
from socrates.errors import SocratesError
from socrates.files import sha256_file
from socrates.schema import validate


@pytest.fixture
def table(tmp_path):
    """A table, its columns.json, its rows, and the lists of a split."""
    made = KINDS["comma_long"](tmp_path)
    (tmp_path / "columns.json").write_text(json.dumps(made.columns), encoding="utf-8")
    convert_to(made.files, validate(Columns, made.columns, "made"), tmp_path / "rows" / "rows.jsonl")
    lists = json.dumps({"made": {"train": ["fair"], "eval": ["trust", "warm"]}})
    for folder in (tmp_path, tmp_path / "rows"):
        (folder / "task_mapping.json").write_text(lists)
    return made.files[0]


def test_a_table_is_prepared_as_its_rows_are_and_known_again_by_its_own_hash(table, tmp_path):
    settings, columns = PrepareSettings("task"), tmp_path / "columns.json"
    metadata = prepare(tmp_path / "one", settings, source=str(table), columns=columns)
    of_rows = prepare(tmp_path / "other", settings, source=str(tmp_path / "rows"))
    assert metadata["sha256"] == of_rows["sha256"]
    assert metadata["source"]["files"] == {"long.csv": sha256_file(table), "--columns": sha256_file(columns)}
    assert prepare(tmp_path / "one", settings, source=str(table), columns=columns) is None
    columns.write_text(json.dumps({**LONG, "demographics": []}), encoding="utf-8")
    with pytest.raises(SocratesError, match="another source"):
        prepare(tmp_path / "one", settings, source=str(table), columns=columns)
    columns.write_text(json.dumps(LONG), encoding="utf-8")
    table.write_text(f"{table.read_text(encoding='utf-8')}999,letter,,,fair,{FAIR},bad\n", encoding="utf-8")
    with pytest.raises(SocratesError, match='"bad" is no number'):
        prepare(tmp_path / "two", settings, source=str(table), columns=columns)
    prepare(tmp_path / "two", settings, source=str(table), columns=columns, max_bad_rows=1)


@pytest.mark.slow
def test_a_table_is_guessed_converted_inspected_and_scored_at_the_command_line(table, tmp_path):
    guessed = run_script("convert_data.py", table, "--guess", "--columns", "guess.json", cwd=tmp_path)
    assert guessed.returncode == 0 and guessed.stdout.count("You are a survey respondent") == 3, guessed.stderr
    assert (
        "You were asked: “How fair is the tax?” Only return an integer from 1 to 7, nothing else.\n→ 1\n"
        in guessed.stdout
    )
    again = run_script("convert_data.py", table, "--guess", "--columns", "guess.json", cwd=tmp_path)
    assert again.returncode == 2 and "guess.json: is there already" in again.stderr
    made = run_script("convert_data.py", table, "--columns", "guess.json", "--output", "out.jsonl", cwd=tmp_path)
    assert made.returncode == 0 and made.stdout.endswith("Converted: out.jsonl: 168 rows\n"), made.stderr
    with_table, with_rows = (
        json.loads(run_script("inspect_data.py", *words, "--json", cwd=tmp_path).stdout)
        for words in ((table, "--columns", "guess.json"), ("out.jsonl",))
    )
    assert with_table.pop("file") == {**with_rows.pop("file"), "path": str(table)} and with_table == with_rows
    rows = [{**row, "guess": row["answer"]} for row in long_rows()]
    write_table(tmp_path / "answers.tsv", rows, "\t", "utf-8")
    (tmp_path / "score.json").write_text(json.dumps({**LONG, "prediction": "guess"}), encoding="utf-8")
    scored = run_script("score_predictions.py", "answers.tsv", "--columns", "score.json", "--output", "s", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    metrics = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert metrics["wasserstein_distance"] == 0 and metrics["about"]["scored_file"] == "answers.tsv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("t.csv", "takes either --output FILE or --guess"),
        ("t.csv --guess --output o", "takes either --output FILE or --guess"),
        ("t.csv --output o", "--output needs --columns"),
        ("t.csv --guess", "t.csv: no such file"),
        ("t.csv --columns c.json --output o", "c.json: no such columns file"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(words, said, tmp_path):
    ended = run_script("convert_data.py", *words.split(), cwd=tmp_path)
    assert ended.returncode == 2 and said in ended.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_conversion_that_is_ended_leaves_nothing(tmp_path):
    (tmp_path / "t.csv").write_text("q\n" + "1\n" * 1_000_000)
    (tmp_path / "c.json").write_text('{"study": "s", "questions": {"q": {"text": "How?", "scale": "1 to 7"}}}')
    words = ("t.csv", "--columns", "c.json", "--output", "out/rows.jsonl")
    script = [sys.executable, ROOT / "scripts" / "convert_data.py", *words]
    with subprocess.Popen(script, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
    assert process.returncode == 143 and not list((tmp_path / "out").iterdir())
