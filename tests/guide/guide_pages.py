"""A Markdown page as what a reader copies from it: the commands of its fenced blocks, and what they are to print.

The rules, which the pages keep:
- a ```bash block holds commands, one a line; a line goes on where it ends in a backslash or a quote is still open.
- a block that begins with a comment about a "separate terminal" is typed in a new one.
- a comment that begins with "# Expected output" and ends in a colon is followed by the lines, as comments, that the
  command before prints; a comment that only resembles it is an error.
- a ```text block is what the last command of the ```bash block before it prints.
- a block without a language is a picture or a list, and one in json a file: nothing of it is run.
Does not cover: running them (`guide_walk.py`), and when a line counts as printed (`guide_lines.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>.*)\n(?P<lines>(?:.*\n)*?)(?P=indent)```$", re.M)
_LANGUAGES = {"bash", "text", "json", ""}
_EXPECTED = re.compile(r"^# Expected output.*:$")
_LIKE_EXPECTED = re.compile(
    r"^\s*#\s*(expect|example|((sample|example) )?outputs?\b|(it |should )(prints?|see)\b)", re.I
)
_APART = re.compile(r"^#.*\bseparate terminal\b")


class PageError(Exception):
    """A page breaks the rules above."""


@dataclass
class Command:
    """One command as it is printed, and the lines that it is to print."""

    text: str  # without a comment at its end; of several lines where it is printed so
    where: str  # page and line
    expected: list[str] = field(default_factory=list)  # in order, "..." where others may stand between
    is_apart: bool = False  # whether its block is typed in a separate terminal

    @property
    def key(self) -> str:
        """The command on one line, for tables."""
        return " ".join(re.sub(r"\\\n", " ", self.text).split())


def read_page(path: Path) -> list[list[Command]]:
    """The commands of each ```bash block, in order; a block without any is an error, too."""
    page = path.read_text(encoding="utf-8")
    blocks: list[list[Command]] = []
    for match in _BLOCK.finditer(page):
        first = page.count("\n", 0, match.start()) + 2
        lines = [line[len(match["indent"]) :] for line in match["lines"].splitlines()]
        if match["language"] == "bash":
            if unclear := [line for line in lines if _LIKE_EXPECTED.match(line) and not _EXPECTED.match(line)]:
                raise PageError(f"{path.name}:{first}: write '# Expected output:', not {unclear[0]}")
            blocks.append(parse_commands(lines, path.name, first))
            if not blocks[-1]:
                raise PageError(f"{path.name}:{first}: a bash block without a command")
            for command in blocks[-1]:
                command.is_apart = bool(_APART.match(lines[0]))
        elif match["language"] == "text" and blocks:
            blocks[-1][-1].expected += lines
        elif match["language"] not in _LANGUAGES or match["language"] == "text":
            raise PageError(f"{path.name}:{first}: a block of language {match['language']!r} here is not understood")
    if left := re.search(r"^[ >-]*(```|~~~).*", _BLOCK.sub("", page), re.M):
        raise PageError(f"{path.name}: a fence that is not understood, or not closed: {left[0]}")
    return blocks


def parse_commands(lines: Sequence[str], page: str = "", first: int = 1) -> list[Command]:
    """The commands in lines of bash; an open quote at the end is an error."""
    commands: list[Command] = []
    text, start, expects = "", first, False
    for number, line in enumerate(lines, first):
        if not text and (not line.strip() or line.startswith("#")):
            if expects and line.startswith("#"):
                commands[-1].expected.append(line[1:].removeprefix(" "))
            expects = line.startswith("#") and (expects or bool(_EXPECTED.match(line)))
            if expects and not commands:
                raise PageError(f"{page}:{number}: output is expected, but no command stands before it")
            continue
        start, expects = (start if text else number), False
        text += line
        ends, goes_on = _scan(text)
        if goes_on:
            text += "\n"
        else:
            commands.append(Command(text[:ends].rstrip(), f"{page}:{start}"))
            text = ""
    if text:
        raise PageError(f"{page}:{start}: this command does not end")
    return commands


def _scan(text: str) -> tuple[int, bool]:
    """Where a comment at the end begins (or the length), and whether the command goes on in the next line."""
    quote, i = "", 0
    while i < len(text):
        character = text[i]
        if character == "\\" and quote != "'":
            i += 2
            if i > len(text):
                return len(text), True
            continue
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif not quote and character == "#" and (i == 0 or text[i - 1].isspace()):
            return i, False
        i += 1
    return len(text), bool(quote)
