"""`prepare_data.py --tokenize`: what training reads is ready, for exactly the config that will train."""

import json
import re
import shutil

import pytest
from processes import assert_refused, run_loaded
from published import published_folder
from tiny import tiny_tokenizer

from socrates.config import load_config
from socrates.data.tokenize import tokenize_for
from socrates.data.tokenized import load_tokenized

ROWS = 174  # of train.jsonl


@pytest.fixture
def workplace(tmp_path):
    """A folder with a data set to prepare, a model's tokenizer and a run config."""
    folder = tmp_path / "a place"
    published_folder(folder / "in", "jsonl", words=30)
    tiny_tokenizer().save_pretrained(folder / "model")
    write_config(folder)
    return folder


def write_config(folder, **changed):
    value = {
        "model_name": str(folder / "model"),
        "dataset_path": "data/set",
        "output_dir": "models/run",
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
        "training": {"global_batch_size": 4, "num_processes": 1, "learning_rate": 1e-4},
    }
    (folder / "config.json").write_text(json.dumps(value | changed))


def prepare(folder, *arguments, output="./data/../data/set"):
    return run_loaded("prepare_data.py", "--output", output, "--source", "in", *arguments, cwd=folder)


TOKENIZE = ("--tokenize", "--config", "config.json")


@pytest.mark.slow
def test_it_prepares_tokenizes_and_says_so_in_one_line(workplace, monkeypatch):
    done = prepare(workplace, *TOKENIZE)
    assert (done.returncode, done.stderr) == (0, "")
    line = re.search(
        r"^Tokenized: (data/set/tokenized-[0-9a-f]{16}): (\d+) rows, ([\d,]+) tokens, 0 rows shortened, 0 dropped$",
        done.stdout,
        re.M,
    )
    assert line and done.stdout.count("Tokenized") == 1 and int(line[2]) == ROWS
    folder = workplace / line[1]
    before = (folder / "data.arrow").stat().st_mtime_ns
    dataset, info = load_tokenized(folder)
    assert info["tokens"] == sum(len(row["input_ids"]) for row in dataset) == int(line[3].replace(",", ""))

    monkeypatch.chdir(workplace)
    assert (workplace / tokenize_for(load_config("config.json"))).samefile(folder), "what training takes"
    again = prepare(workplace, *TOKENIZE)
    assert again.returncode == 0 and "nothing to do" in again.stdout and line[0] in again.stdout
    assert (folder / "data.arrow").stat().st_mtime_ns == before

    (folder / "data.arrow").write_bytes(b"")
    assert_refused(prepare(workplace, *TOKENIZE), "0 bytes", f"rm -r {line[1]}")


@pytest.mark.slow
def test_a_set_that_is_there_already_is_tokenized_after_a_check_that_finds_no_leak(workplace):
    assert prepare(workplace).returncode == 0
    done = prepare(workplace, "--check", *TOKENIZE)
    assert done.returncode == 0 and f"{ROWS} rows, " in done.stdout.splitlines()[-1], done.stderr
    (folder,) = (workplace / "data/set").glob("tokenized-*")
    shutil.rmtree(folder)
    (workplace / "data/set/test.jsonl").write_text((workplace / "data/set/val.jsonl").read_text())
    assert_refused(prepare(workplace, "--check", *TOKENIZE), "leak: study")
    assert not list((workplace / "data/set").glob("tokenized-*"))


@pytest.mark.parametrize(
    ("arguments", "config", "parts"),
    [
        (["--tokenize"], {}, ["--tokenize and --config go together"]),
        (TOKENIZE, {"dataset_path": "data/other"}, ["config.json", "data/other", "data/../data/set"]),
        (TOKENIZE, {"model_name": "./models/none"}, ["./models/none", "no such model folder"]),
        (TOKENIZE, {"seeed": 1}, ['"seeed": unknown key']),
    ],
)
def test_what_cannot_work_is_refused_before_anything_happens(workplace, arguments, config, parts):
    write_config(workplace, **config)
    assert_refused(prepare(workplace, *arguments), *parts)
    assert not (workplace / "data").exists()
