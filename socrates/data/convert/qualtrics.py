"""Qualtrics: what a survey file (.qsf) says of the columns of an export."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import read_json

IMPORT_ID = '{"ImportId"'  # every cell of an export's third header row begins so
_IMPORTED = re.compile(r'"(QID\d+)(?:_(\d+))?"')


def without_tags(text: str) -> str:
    """A question's text without HTML, on one line."""
    return " ".join(html.unescape(re.sub("<[^<>]*>", " ", text)).split())


def read_qsf(path: Path, imported: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What a survey file says of columns, as `tables.Known` has it; SocratesError if it is none.

    ``imported``: column -> its cell in the third header row, such as '{"ImportId":"QID5_2"}'.
    """
    try:
        elements = read_json(path, "survey file")["SurveyElements"]
        asked = {one["PrimaryAttribute"]: one["Payload"] for one in elements if one["Element"] == "SQ"}
        places = {name: found.groups() for name, cell in imported.items() if (found := _IMPORTED.search(cell))}
        return {name: _known(asked[qid], item) for name, (qid, item) in places.items() if qid in asked}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SocratesError(f"{path}: is not as a Qualtrics survey file (.qsf) is: {error!r}") from error


def _known(question: Mapping[str, Any], item: str | None) -> dict[str, Any]:
    """Of a question, or of one statement of a matrix or a slider; an empty list stands there for no choices."""
    kind, text = question["QuestionType"], without_tags(question["QuestionText"])
    choices, answers = (dict(question.get(key) or {}) for key in ("Choices", "Answers"))
    if item in choices:
        text = f"{text} {without_tags(choices[item]['Display'])}"
    if kind == "Slider":
        limits = question["Configuration"]
        return {"text": text, "scale": f"{limits['CSSliderMin']} to {limits['CSSliderMax']}"}
    recodes = dict(question.get("RecodeValues") or {})
    options = answers if kind == "Matrix" else {} if item else choices
    return {
        "text": text,
        "labels": {int(recodes.get(key, key)): without_tags(options[key]["Display"]) for key in options},
    }
