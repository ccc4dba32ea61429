"""Every entry point answers for itself: --help at once, and every option documented and understood, on every page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from socrates.errors import REMOVED_OPTIONS

pytestmark = pytest.mark.slow  # each test starts programs

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted(path for path in (ROOT / "scripts").glob("*.py") if not path.name.startswith("_"))
BASH = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / "scripts/tnr", *sorted(ROOT.glob("*.sh"))]
PAGES = (
    *("README.md", "TEST_RUN_GUIDE.md", "VALIDATION_CRITERIA.md", "TRAINING_AUDIT.md"),
    *("examples/README.md", "docs/own_data.md"),
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
CASE = re.compile(r"^\s*([-\w| =*]*--[-\w| =*]*)\)", re.M)  # a pattern of a bash `case`
WRONG = {  # where Python reads the arguments; those of the other bash scripts are tested beside them
    "monitor_checkpoints.sh": (
        *("a b c", "0 0", "0 86401", "0 1.5", "0 -5", "../x", "0;x 5", "--run", "--oncex", "0 --light 0"),
        *("--once --missing", "--until-complete --once", "--run ../x"),
    ),
    "download_checkpoint.sh": (
        *("", "10 20", "x", "-1", "1e3", "007", "10 --instance", "--from 0:a", "--to b", "--from 0:a --to b"),
        *("10 --from 0:a --to b", "--from 0:checkpoint-1 --to b --run c", "10 --instance ../x"),
    ),
    "status.sh": ("0 1", "../x", "-1", "0;x", "--watch 5"),
    "verify_test_run.sh": ("0 1", "../x", "-1", "0;x", "--config", "--config absent.json"),
    "evaluate_baseline.sh": ("extra", "--config", "--output", "--max-examples", "--config absent.json"),
    "evaluate.py": ("--max-examples -1", "--max-examples x"),
    "score_predictions.py": ("in.jsonl --output out --seed -1",),
}
NOT_OURS = {  # options of other programs that the pages name
    *("--num_gpus", "--no-first-run")
}


def named(path):
    return str(path.relative_to(ROOT))


@cache
def help_of(path: Path, *subcommand: str, flag: str = "--help") -> str:
    # -S: without site-packages, whose imports are what could make a person wait.
    command = [*([sys.executable, "-S"] if path.suffix == ".py" else []), path, *subcommand, flag]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return result.stdout


def assert_refuses(folder, path, *arguments):
    """Status 2, an error in words, and nothing made; returns what it says."""
    command = [*([sys.executable] if path.suffix == ".py" else []), path, *arguments]
    environment = {**os.environ, "VIRTUAL_ENV": str(ROOT / "venv"), "HOME": str(folder), "SOCRATES_BACKEND": "local"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "error: " in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert not list(folder.iterdir())
    return result.stderr


def subcommands(path: Path) -> list[str]:
    found = re.search(r"^usage: .*\{([\w,-]+)\}", help_of(path), re.M)
    return found[1].split(",") if found else []


def options_of(path: Path) -> set[str]:
    text = help_of(path) + "".join(help_of(path, name) for name in subcommands(path))
    return set(OPTION.findall(text))


@pytest.mark.parametrize("path", [*PYTHON, *BASH], ids=named)
def test_help_answers_at_once_and_in_the_same_form(path):
    text = help_of(path)
    assert re.search(r"Exit status( of \w+)?: ", text), "does not say what its exit statuses mean"
    assert re.match(r"usage: |Summary: .+\nUsage: ", text)
    assert "set -euo" not in text and text == help_of(path, flag="-h")


@pytest.mark.parametrize("path", BASH, ids=named)
@pytest.mark.parametrize("flag", ["--help", "--no-such-option"])
def test_nothing_that_a_shell_exports_changes_what_a_script_says(path, flag, tmp_path):
    if flag != "--help" and path.name == "test.sh":  # hands it to pytest
        return
    (tmp_path / "scripts" / "lib").mkdir(parents=True)  # another checkout, as it seems
    (tmp_path / "start").write_text("sed() { echo sed; }; shopt -s nocasematch failglob\n")
    function = {f"BASH_FUNC_{name}%%": "() { echo another; return 3; }" for name in ("cd", "sed", "pwd", "printf")}
    options = {"SHELLOPTS": "noclobber:noglob:xtrace", "BASHOPTS": "nocasematch", "BASH_ENV": str(tmp_path / "start")}
    said = [
        subprocess.run(["bash", named(path), flag], cwd=ROOT, env=environment, capture_output=True, text=True)
        for environment in (os.environ, {**os.environ, **function, **options, "CDPATH": str(tmp_path), "FUNCNEST": "1"})
    ]
    assert said[0].returncode == said[1].returncode and said[0].stdout == said[1].stdout
    assert said[1].stderr.endswith(said[0].stderr)  # before it: the trace of a script's first lines


@pytest.mark.parametrize("path", [*PYTHON, *BASH], ids=named)
def test_each_can_be_started_as_it_is_named_and_refuses_a_wrong_option(path, tmp_path):
    assert os.access(path, os.X_OK)
    assert path.suffix == ".py" or path.read_text().startswith("#!/usr/bin/env bash\n")
    if path.name != "test.sh":  # hands them to pytest
        said = assert_refuses(tmp_path, path, "--no-such-option")
        assert "--no-such-option" in said or "required: " in said


@pytest.mark.parametrize("script, lines", WRONG.items(), ids=[*WRONG])
def test_wrong_arguments_are_refused_before_anything_happens(script, lines, tmp_path):
    for line in lines:
        assert_refuses(tmp_path, ROOT / "scripts" / script, *line.split())


@pytest.mark.parametrize(
    ("script", "words"), [("download_checkpoint.sh", ["30", "--instance"]), ("evaluate_baseline.sh", ["--output"])]
)
@pytest.mark.parametrize("joined", [True, False])
def test_a_variable_that_is_not_set_is_refused_and_means_no_default(script, words, joined, tmp_path):
    empty = [*words[:-1], f"{words[-1]}="] if joined else [*words, ""]
    assert "is empty; is a variable not set?" in assert_refuses(tmp_path, ROOT / "scripts" / script, *empty)


def test_the_status_is_that_of_the_instance_that_is_named(tmp_path):
    assert "instance box: not in " in assert_refuses(tmp_path, ROOT / "scripts/status.sh", "box")


@pytest.mark.parametrize("path", BASH, ids=named)
def test_a_bash_script_takes_the_options_that_its_help_names_and_no_others(path):
    source = path.read_text()
    body = source[source.index("\nset -euo pipefail") :]
    if path.name == "tnr":  # its subcommands are read in the files beside it
        body += "".join(part.read_text() for part in sorted((ROOT / "scripts" / "lib").glob("tnr_*.sh")))
    taken = {option for pattern in CASE.findall(body) for option in OPTION.findall(pattern)} - {"--help"}
    assert taken <= options_of(path), "takes options that its help does not name"
    handed_on = re.findall(r"scripts/(\w+\.py)[^\n]*\$@", body)
    understood = taken.union(*(options_of(ROOT / "scripts" / name) for name in handed_on))
    documented = set(re.findall(r"(?:^  |\[)(--[a-z-]+)", help_of(path), re.M))
    assert documented <= understood, "its help names options that it does not take"


@pytest.mark.parametrize(("key", "instead"), REMOVED_OPTIONS.items(), ids=[*REMOVED_OPTIONS])
def test_an_option_that_is_gone_is_refused_with_what_is_in_its_place(key, instead, tmp_path):
    *scripts, option = key.split()
    for script in scripts:
        path = next(path for path in [*PYTHON, *BASH] if path.stem == script)
        assert f"{option} is gone: {instead}\n" in assert_refuses(tmp_path, path, f"{option}=x")
        assert option not in options_of(path)
    assert "is gone" not in assert_refuses(tmp_path, ROOT / "scripts" / "gate.py", option)


@pytest.mark.parametrize("page", [page for page in PAGES if (ROOT / page).exists()])
def test_every_option_that_a_page_names_exists(page):
    known = set().union(*(options_of(path) for path in [*PYTHON, *BASH]), NOT_OURS)
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        for option in OPTION.findall(line):
            assert option in known, f"{page}, line {number}: nothing takes {option}"


def test_a_text_from_a_file_is_printed_in_any_locale_steers_no_terminal_and_what_cannot_be_said_is_no_answer(tmp_path):
    (tmp_path / "ü\x1b[2J.json").write_text("\ufeff{}")
    command = [sys.executable, ROOT / "scripts/gate.py", "ü\x1b[2J.json", os.fsdecode(b"\xff.json")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, encoding="utf-8")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: \\udcff.json: no such")
    command[-1] = command[-2]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(command, cwd=tmp_path, stdout=full, stderr=full).returncode == 2
    ended = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, encoding="utf-8")
    assert "error: ü\\x1b[2J.json" in ended.stderr


@pytest.mark.parametrize("kind", ["pipe", "larger"])
def test_a_file_that_never_ends_or_is_too_large_is_refused(kind, tmp_path):
    path = tmp_path / "metrics.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(2**26 + 1)
    command = [sys.executable, ROOT / "scripts/gate.py", path, tmp_path / "other.json"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)
    assert ended.returncode == 2
    assert kind in ended.stderr


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("verify_checkpoint.py läuft", 1, "läuft/checkpoint-1: damaged: "),
        ("evaluate.py --model läuft --test-data läuft/v --output ö", 2, "Model: läuft\nValidation data: läuft/v\n"),
    ],
)
def test_a_name_with_an_umlaut_is_printed_where_python_is_told_that_there_are_none(line, status, said, tmp_path):
    (tmp_path / "läuft/checkpoint-1").mkdir(parents=True)
    (tmp_path / "läuft/checkpoint-1/manifest.json").write_text("{}")
    command = [sys.executable, *f"{ROOT}/scripts/{line}".split()]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, cwd=tmp_path, env=ascii_only, capture_output=True, encoding="utf-8")
    assert ended.returncode == status and said in ended.stdout and "Traceback" not in ended.stderr, ended
