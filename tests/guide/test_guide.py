"""The pages' commands run as printed; and the runner would notice if they did not."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import guide_walk
import pytest
from guide_lines import first_missing
from guide_pages import PageError, parse_commands, read_page
from guide_tables import NOT_RUN, unused_entries
from guide_walk import FAILED, PASSED, Walk
from run_guide import PAGES, ROOT, walk_pages

USERS_GUIDE = ROOT.parent / "shared" / "guide.md"
GUIDE_COMMANDS = Path(__file__).with_name("guide_commands.txt").read_text().splitlines()[1:]


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "PAGE.md"
    path.write_text(text)
    return path


def texts(page: Path) -> list[str]:
    return [command.text for block in read_page(page) for command in block]


def test_commands_as_bash_would_take_them(tmp_path):
    path = page(
        tmp_path,
        "```bash\n# a comment, don't run it\none 'a # b' \"it's\"  # why, isn't it\ntwo \\\n  --flag 'x\n  y' \\\n  z\n"
        "three a#b\n```\n```\nnot a command\n```\n  ```bash\n  four\n  ```\n",
    )
    assert texts(path) == ["one 'a # b' \"it's\"", "two \\\n  --flag 'x\n  y' \\\n  z", "three a#b", "four"]
    assert [c.where for block in read_page(path) for c in block] == [f"PAGE.md:{line}" for line in (3, 4, 8, 14)]


def test_expected_lines_belong_to_the_command_before_them(tmp_path):
    path = page(
        tmp_path,
        "```bash\none\n\n# Expected output:\n# a\n#\n#   b\n\n# a comment\ntwo  # c\n```\nprose\n```text\nd\n```\n",
    )
    assert [(c.text, c.expected) for c in read_page(path)[0]] == [("one", ["a", "", "  b"]), ("two", ["d"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nls\n```\n", "language 'sh'"),
        ("```bash\n# only a comment\n```\n", "without a command"),
        ("```bash\nls 'open\n```\n", "does not end"),
        ("```bash\n# Expected output:\n# a\nls\n```\n", "no command stands before"),
        ("```text\na\n```\n", "language 'text' here"),
        ("```bash\nls\n\n# Expected output\n# a\n```\n", "write '# Expected output:'"),
    ],
)
def test_a_page_on_which_a_command_could_hide_is_refused(tmp_path, text, message):
    with pytest.raises(PageError, match=message):
        read_page(page(tmp_path, text))


OUTPUT = "=====\nstart 12:00\n[2026-01-02 03:04:05] step 10 of 1,500: 0.25\n\nW: -3.2e-05\ncheckpoint-10 of 14B\ndone\n"


@pytest.mark.parametrize(
    ("expected", "is_printed"),
    [
        (["[2025-12-23 10:15:00] step 7 of 9: 12.5", "", "W: 0.1"], True),  # other numbers of the same form
        (["W: 1"], False),  # a whole number is none with a point
        (["checkpoint-20 of ..."], False),  # part of a name
        (["[2025-12-23 10:15:00] step 7 of 9: 12.5", "done"], False),  # lines between
        (["[2025-12-23 10:15:00] step 7 of 9: 12.5", "...", "done"], True),
        (["done", "...", "W: 0.1"], False),  # order
        (["W: ", "..."], False),  # a whole line, not its beginning
    ],
)
def test_what_counts_as_printed(expected, is_printed):
    assert (first_missing(expected, OUTPUT) is None) == is_printed


class Desk:
    """A laptop with a `tnr` and a monitor of a few lines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, folder / "notes"
        self.environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
        monitor = (
            "[ $1 != 9 ] || { echo here; exit 2; }; trap 'echo stopped; exit 130' INT; echo here$A; "
            "while sleep 0.1; do :; done"
        )
        tnr = '[ "$1" != ssh ] || exec bash -s'
        for name, text in {"bin/tnr": tnr, "scripts/monitor_checkpoints.sh": monitor}.items():
            (folder / name).parent.mkdir()
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)

    def machines(self) -> list[Path]:
        return []

    def files_with(self, text: str) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and text in path.read_text()]


def walk(tmp_path: Path, *blocks: str) -> list[tuple[str, str, str]]:
    desk = tmp_path / "desk"
    desk.mkdir()
    done = Walk(Desk(desk), lambda result: None)
    done.page(read_page(page(tmp_path, "".join(f"```bash\n{commands}\n```\n" for commands in blocks))))
    done.end()
    return [(result.command.text, result.outcome, result.reason) for result in done.results]


def test_a_terminal_keeps_its_state_and_the_walk_ends_at_the_first_command_that_fails(tmp_path):
    commands = "export A=b && cd bin\necho $A-$PWD\n\n# Expected output:\n# b-.../bin\n\n(exit 3)\necho never"
    *passed, failed = walk(tmp_path, commands)
    assert [outcome for _, outcome, _ in passed] == [PASSED, PASSED]
    assert failed[0] == "(exit 3)" and failed[1] == FAILED and "exit status 3, not 0" in failed[2]


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ("echo a\n\n# Expected output:\n# b", "did not print\nb"),
        ("tnr ssh 0\nfalse\ntrue\nexit", "exit status 1, not 0"),
        ("tnr ssh 0\necho a\n\n# Expected output:\n# b\n\nexit", "did not print\nb"),
        ("echo a > log; tail -f log", "does not say what it shows"),
        ("./scripts/monitor_checkpoints.sh 9 60", "exit status 2, not 130"),
        (
            "./scripts/monitor_checkpoints.sh 0 60\n\n# Expected output:\n# there\n\ntnr delete 0",
            "did not print\nthere",
        ),
        ("exec true", "its shell has ended"),
        ("echo 'your_hf_token'\ntnr delete 0", "the token stands in"),
    ],
)
def test_what_does_not_do_as_its_page_says_fails(tmp_path, monkeypatch, commands, reason):
    monkeypatch.setattr(guide_walk, "LIMIT_S", 1.0)
    results = walk(tmp_path, commands)
    assert results[-1][1] == FAILED and reason in results[-1][2], results


def test_what_goes_on_is_ended_with_ctrl_c_once_it_has_shown_what_it_should(tmp_path):
    commands = (
        "./scripts/monitor_checkpoints.sh 0 60\n\n# Expected output:\n# here\n# stopped\n\n"
        "(sleep 0.3; echo b >> log) & echo a > log; tail -f log\n\n# Expected output:\n# a\n# b\n\ntnr delete 0"
    )
    assert [outcome for _, outcome, _ in walk(tmp_path, commands)] == [PASSED] * 3


def test_a_separate_terminal_knows_only_what_is_typed_in_it(tmp_path):
    blocks = (
        "export A=first",
        "# In a separate terminal\nexport A=b\n./scripts/monitor_checkpoints.sh 0 60\n\n# Expected output:\n# hereb",
        "echo $A\n\n# Expected output:\n# first",
        "# In a separate terminal\necho $A-\n\n# Expected output:\n# -",
    )
    assert [outcome for _, outcome, _ in walk(tmp_path, *blocks)] == [PASSED] * 5


def test_the_list_of_the_users_guide_is_whole():
    assert (len(GUIDE_COMMANDS), len(set(GUIDE_COMMANDS))) == (59, 46)
    if not USERS_GUIDE.exists():
        pytest.skip(f"no {USERS_GUIDE} to compare with")
    blocks = re.findall(r"^```bash\n(.*?)^```", USERS_GUIDE.read_text(), re.M | re.S)
    assert [command.key for command in parse_commands("".join(blocks).splitlines())] == GUIDE_COMMANDS


def test_every_command_of_the_users_guide_stands_in_ours_as_often():
    ours = Counter(command.key for block in read_page(ROOT / PAGES[0]) for command in block)
    assert not Counter(GUIDE_COMMANDS) - ours
    assert {command for command in GUIDE_COMMANDS if NOT_RUN.get(command)} == {"tnr ssh 0 'nvidia-smi'"}


def test_what_the_tables_name_stands_on_a_page():
    assert unused_entries(read_page(ROOT / name) for name in PAGES) == []


@pytest.mark.slow
def test_every_command_of_the_pages_does_what_its_page_says():
    results = walk_pages(list(PAGES))
    failed = [f"{r.command.where}: {r.command.key}\n{r.reason}" for r in results if r.outcome == FAILED]
    assert not failed, failed[0]
    assert len(results) == sum(len(texts(ROOT / name)) for name in PAGES)
