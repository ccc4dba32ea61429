"""docs/own_data.md: its commands print what it shows of them, and each columns.json on it is one."""

import json
import re

import pytest
from guide_lines import first_missing
from guide_pages import read_page
from processes import ROOT, run_in

from socrates.data.convert.columns import Columns
from socrates.schema import validate

PAGE = ROOT / "docs" / "own_data.md"
MADE_WITHOUT_A_MODEL = ("convert_data.py", "inspect_data.py", "prepare_data.py")


@pytest.mark.slow
def test_the_example_is_guessed_converted_inspected_and_split_as_the_page_shows(tmp_path):
    for name in ("scripts", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    commands = [command for block in read_page(PAGE) for command in block]
    commands = [command for command in commands if any(name in command.text for name in MADE_WITHOUT_A_MODEL)]
    assert len(commands) == 4
    for command in commands:
        ended = run_in(tmp_path, ["bash", "-c", command.text])
        assert ended.returncode == 0 and command.expected, f"{command.where}: {ended.stderr}"
        assert (lines := first_missing(command.expected, ended.stdout)) is None, f"{command.where}: {lines}"
        exact = {line for line in command.expected if "…" not in line}  # the comparison before takes any number
        assert exact <= set(ended.stdout.splitlines()), command.where


def test_each_columns_json_on_the_page_is_one_and_the_first_is_that_of_the_example():
    blocks = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    shown = [json.loads(text) for text in (blocks[0], *blocks[1].splitlines())]
    assert len(shown) == 5 and all(validate(Columns, one, "the page") for one in shown)
    assert shown[0] == json.loads((ROOT / "examples" / "recycling_columns.json").read_text(encoding="utf-8"))
