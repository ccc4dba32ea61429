"""Texts that another machine sends, so that no control character or escape sequence in them reaches a terminal."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]")
_MARKS = ("\u034f", "\u115f", "\u1160", "\u3164")  # letters by their category that show nothing


def plain(value: Any, limit: int = 200) -> str:
    """A text on one line, without escape sequences, control or invisible characters, at most ``limit`` long.

    Anything but a text gives the empty text.
    """
    if not isinstance(value, str):
        return ""
    text = _ESCAPES.sub("", value[: 20 * limit])
    text = "".join(" " if c in "\t\n\r\v\f\u2028\u2029" else c for c in text)
    return "".join(c for c in text if unicodedata.category(c)[0] != "C" and c not in _MARKS).strip()[:limit]
