"""What another machine reports, read so that nothing in it can do harm: texts and JSON.

Covers: control characters and escape sequences never reach a terminal; NaN and infinity become None. Does not cover:
whether what is reported is true.
"""

from __future__ import annotations

import json
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


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """A JSON object; None for anything else, half a one included. NaN and infinity become None."""
    try:
        value = json.loads(data, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
