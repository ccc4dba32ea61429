"""Qualtrics: what a survey file (.qsf) says of the columns of an export."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from socrates.data.records import as_number
from socrates.data.scales import scale_from_text
from socrates.errors import SocratesError
from socrates.files import read_json

IMPORT_ID = '{"ImportId"'  # every cell of an export's third header row begins so
_IMPORTED = re.compile(r'"(?:\d+_)?(QID\d+)(?:_(\d+))?"')  # "1_QID5_2": in the first loop


def without_tags(text: str) -> str:
    """A question's text without HTML, on one line."""
    return " ".join(html.unescape(re.sub("<[^<>]*>", " ", text)).split())


def read_qsf(path: Path, imported: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What a survey file says of columns, as `tables.Known` has it, where it can be read; SocratesError if it is none.

    ``imported``: column -> its cell in the third header row, such as '{"ImportId":"QID5_2"}'.
    """
    try:
        elements = read_json(path, "survey file")["SurveyElements"]
        asked = {one["PrimaryAttribute"]: one["Payload"] for one in elements if one["Element"] == "SQ"}
    except (KeyError, TypeError) as error:
        raise SocratesError(f"{path}: is not as a Qualtrics survey file (.qsf) is: {error!r}") from error
    known = {}
    for name, cell in imported.items():
        with suppress(KeyError, TypeError, AttributeError, ValueError):  # a kind of question that is not known here
            if found := _IMPORTED.search(cell):
                known[name] = _known(asked[found[1]], found[2])
    return known


def _known(question: Mapping[str, Any], item: str | None) -> dict[str, Any]:
    """Of a question, or of one statement of a matrix or a slider; an empty list stands there for no choices."""
    kind, text = question["QuestionType"], without_tags(question["QuestionText"])
    choices, answers = (dict(question.get(key) or {}) for key in ("Choices", "Answers"))
    if item in choices:
        text = f"{text} {without_tags(choices[item]['Display'])}"
    if kind == "Slider":
        limits = question["Configuration"]
        step = 10 ** -int(limits.get("NumDecimals") or 0)
        return {
            "text": text,
            "scale": scale_from_text(f"{limits['CSSliderMin']} to {limits['CSSliderMax']} by {step:g}"),
        }
    recodes = dict(question.get("RecodeValues") or {})
    is_single = not item and not question.get("Selector", "").startswith("MA")
    options = answers if kind == "Matrix" else choices if is_single else {}
    labels = {key: without_tags(options[key]["Display"]) or f"choice {key}" for key in options}
    return {"text": text, "labels": {as_number(float(recodes.get(key, key))): label for key, label in labels.items()}}
