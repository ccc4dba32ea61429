"""What another machine reports, read so that nothing in it can do harm: texts, JSON, sections of an answer.

Covers: control characters and escape sequences never reach a terminal; NaN and infinity become None; an answer that was
cut off is refused. Does not cover: whether what is reported is true.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from socrates.errors import SocratesError

# Some shells greet: what counts stands between these two.
_BEGIN, _END = b"socrates-begin\0", b"socrates-end\0"
# `give NAME LIMIT` passes on at most LIMIT bytes of standard input as the section NAME.
PRELUDE = r"""
export LC_ALL=C
shopt -s nullglob
give() { printf '%s\0' "$1"; head -c "$2" | tr -d '\0'; printf '\0'; }
printf 'socrates-begin\0'
"""
FINISH = r"""
printf 'socrates-end\0'
"""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]")
_MARKS = ("\u034f", "\u115f", "\u1160", "\u3164")  # letters by their category that show nothing


class CutOff(SocratesError):
    """A machine's answer is not complete."""


def answer_sections(answer: bytes) -> dict[str, bytes]:
    """The sections of a script's answer (between `PRELUDE` and `FINISH`) by name; of two with one name the first.

    Raises:
        CutOff: the answer has no begin or no end.
    """
    _, begun, rest = answer.partition(_BEGIN)
    if not begun or not (b"\0" + rest).endswith(b"\0" + _END):
        raise CutOff(f"its answer is cut off ({len(answer)} bytes)")
    parts = rest.removesuffix(_END).split(b"\0")
    found: dict[str, bytes] = {}
    for name, content in zip(parts[::2], parts[1::2], strict=False):
        found.setdefault(name.decode(errors="replace"), content)
    return found


def plain(value: Any, limit: int = 200) -> str:
    """A text on one line, without escape sequences, control or invisible characters, at most ``limit`` long.

    Anything but a text gives the empty text.
    """
    if not isinstance(value, str):
        return ""
    text = _ESCAPES.sub("", value[: 20 * limit])
    text = "".join(" " if c in "\t\n\r\v\f\u2028\u2029" else c for c in text)
    return "".join(c for c in text if unicodedata.category(c)[0] != "C" and c not in _MARKS).strip()[:limit]


def plain_lines(data: bytes, count: int, limit: int = 200) -> tuple[str, ...]:
    """The last ``count`` lines that are not empty; a carriage return (a progress bar's) ends a line too."""
    lines = re.split(r"[\r\n]+", data.decode(errors="replace"))
    found: list[str] = []
    for line in reversed(lines):
        if len(found) == count:
            break
        if text := plain(line, limit):
            found.append(text)
    return tuple(reversed(found))


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """A JSON object; None for anything else, half a one included. NaN and infinity become None."""
    try:
        value = json.loads(data, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
