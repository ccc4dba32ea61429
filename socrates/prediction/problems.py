"""What is wrong with a file that a person wrote: all at once, each with its key and, for a slip, the nearest name."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError


class Problems:
    """The problems of one file, as they are found.

    Attributes:
        file: where they are.
    """

    def __init__(self, file: Path | str) -> None:
        self.file = file
        self._found: list[str] = []

    def __len__(self) -> int:
        """How many were found."""
        return len(self._found)

    def add(self, key: str, what: str) -> None:
        """A problem of the value at a key ("questions.support.scale")."""
        self._found.append(f'"{key}": {what}' if key else what)

    def check_keys(self, value: Mapping[str, Any], valid: Collection[str], prefix: str = "") -> None:
        """Add every key that is not valid."""
        for key in value:
            if key not in valid:
                self.add(f"{prefix}{key}", f"unknown key{nearest(key, valid)}")

    def check_present(self, value: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> None:
        """Add every key that is missing."""
        for key in keys:
            if key not in value:
                self.add(f"{prefix}{key}", "missing")

    def read_object(self, value: Any, key: str, expected: str) -> Mapping[str, Any] | None:
        """The object at a key, or None after a problem; an empty one is a problem, too."""
        if isinstance(value, Mapping) and value:
            return value
        self.add(key, f"must be {expected}, not {shown(value)}")
        return None

    def read_text(self, value: Any, key: str, expected: str) -> str | None:
        """The text at a key without white space around it, or None after a problem."""
        if not isinstance(value, str) or not value.strip():
            self.add(key, f"must be {expected}, not {shown(value)}")
            return None
        if problem := text_problem(value):
            self.add(key, problem)
            return None
        return value.strip()

    def read_name(self, name: str, key: str) -> str | None:
        """What people call something, in one line, or None after a problem of the object at ``key`` that names it."""
        if not name.strip():
            self.add(key, "a name is empty")
        elif problem := text_problem(name, one_line=True):
            self.add(key, f"the name {shown(name)} {problem}")
        else:
            return name.strip()
        return None

    def raise_any(self) -> None:
        """SocratesError with all problems, a line each; nothing where there are none."""
        if self._found:
            number = "1 problem" if len(self._found) == 1 else f"{len(self._found)} problems"
            raise SocratesError("\n  ".join([f"{self.file}: {number}", *self._found]))


def text_problem(text: str, *, one_line: bool = False) -> str | None:
    """Why a text cannot be asked or written: half a character, a control character; None: it can."""
    for sign in "" if text.isprintable() else text:
        kind = unicodedata.category(sign)
        if kind == "Cs":
            return "holds half a character (\\ud800 to \\udfff)"
        if sign in "\n\r\u2028\u2029" and one_line:
            return "holds a line break"
        if kind == "Cc" and (one_line or sign not in "\n\r\t"):
            return f"holds a control character (U+{ord(sign):04X})"
    return None


def nearest(name: str, valid: Collection[str]) -> str:
    """What a wrong name may have meant, for the end of a message."""
    close = difflib.get_close_matches(name.strip().lower().replace(" ", "_"), valid, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; valid: {', '.join(valid)}"


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}…"
