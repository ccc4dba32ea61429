"""A Markdown page as what a reader copies from it: the commands of its fenced blocks, and what they are to print.

The rules, which the pages keep:
- a ```bash block holds commands, one a line; a line goes on where it ends in a backslash or a quote is still open.
- a block that begins with a comment about a "separate terminal" is typed in a new one.
- a comment that begins with "# Expected output" and ends in a colon is followed by the lines, as comments, that the
  command before prints; a comment that only resembles it is an error.
- a ```text block is what the last command of the ```bash block before it prints.
- a block without a language is a picture or a list, and one in json a file: nothing of it is run. What looks typed in
  such a block, or indented outside of any, is an error.
Does not cover: running them (`guide_walk.py`), and when a line counts as printed (`guide_lines.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_LANGUAGES = {"bash", "text", "json", ""}
_EXPECTED = re.compile(r"^# Expected output.*:$")
_LIKE_EXPECTED = re.compile(
    r"^\s*#\s*(expect|example:|((automated|sample|example) )?outputs?\b|(it |should )(prints?|see)\b)", re.I
)
_LOOKS_TYPED = re.compile(
    r"^\s*(\$ |\./|(\S*/)?\w+\.sh( \S|$)|[A-Z_]+=\S+ \S|nvidia-smi|ls$|"
    r"(bash|cat|cd|cp|deepspeed|echo|export|git|grep|head|kill|ls|mkdir|mv|nohup|pip|ps|python3?|rm|rsync|scp|source|ssh|"
    r"tail|tnr) \S)"
)
_APART = re.compile(r"^#.*\bseparate terminal\b")


class PageError(Exception):
    """A page breaks the rules above."""


@dataclass
class Command:
    """One command as it is printed, and the lines that it is to print.

    Attributes:
        text: without a comment at its end; of several lines where it is printed so.
        page: name of the page.
        line: of the page, from 1.
        expected: lines in order, "..." where others may stand between.
        is_apart: whether its block is typed in a separate terminal.
    """

    text: str
    page: str
    line: int
    expected: list[str] = field(default_factory=list)
    is_apart: bool = False

    @property
    def key(self) -> str:
        """The command on one line, for tables."""
        return " ".join(re.sub(r"\\\n", " ", self.text).split())


def read_page(path: Path) -> list[list[Command]]:
    """The commands of each ```bash block, in order; a block without any is an error, too."""
    blocks: list[list[Command]] = []
    for language, first, lines in _fences(path):
        at = f"{path.name}:{first - 1}"
        if language not in _LANGUAGES:
            raise PageError(f"{at}: a block of language {language!r}; known are bash, text, json and none")
        if language == "bash":
            for number, line in enumerate(lines, first):
                if _LIKE_EXPECTED.match(line) and not _EXPECTED.match(line):
                    raise PageError(
                        f"{path.name}:{number}: write '# Expected output:'; nothing would be expected by: {line}"
                    )
            blocks.append(parse_commands(lines, path.name, first))
            if not blocks[-1]:
                raise PageError(f"{at}: a bash block without a command")
            for command in blocks[-1]:
                command.is_apart = bool(_APART.match(lines[0]))
        elif language == "text":
            if not blocks:
                raise PageError(f"{at}: text, but no command before it that could print it")
            blocks[-1][-1].expected += lines
        elif typed := [line for line in lines if _LOOKS_TYPED.match(line)]:
            raise PageError(f"{at}: looks like a command, but the block is not bash: {typed[0]}")
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
            commands.append(Command(text[:ends].rstrip(), page, start))
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


def _fences(path: Path) -> Iterator[tuple[str, int, list[str]]]:
    """(language, number of the first line inside, lines) of each fenced block."""
    opened, lines = None, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, lines = (match["language"], number + 1, len(match["indent"])), []
            elif line.lstrip(" >-").startswith(("```", "~~~")):
                raise PageError(f"{path.name}:{number}: a fence that is not understood: {line}")
            elif line.startswith(("    ", "\t")) and _LOOKS_TYPED.match(line):
                raise PageError(f"{path.name}:{number}: looks like a command, but is only indented: {line.strip()}")
        elif match and not match["language"]:
            yield opened[0], opened[1], lines
            opened = None
        else:
            lines.append(line[opened[2] :])
    if opened is not None:
        raise PageError(f"{path.name}:{opened[1] - 1}: this block is not closed")
