"""Files that people write, checked with pydantic: every problem at once, by key, with the nearest valid name.

Nothing is converted (`"1e-5"` is no number). A field's description says in messages what is expected there. Rules
across fields are added by the reader of each file.
"""

from __future__ import annotations

import difflib
import json
import math
import typing
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from socrates.errors import SocratesError, escaped

_LARGEST = 1e12  # products of such numbers are finite, and fit into 64 bits
Hint = Callable[[str, Collection[str]], str | None]  # (unknown key, valid keys) -> what to do instead


class Schema(BaseModel):
    """A part of a file that people write: strict, without unknown keys, and not changed once it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _can_be_computed_with(cls, value: Any) -> Any:
        if isinstance(value, int | float) and _LARGEST < abs(value) < math.inf:
            raise ValueError(f"must be within ±{_LARGEST:g}, not {shown(value)}")
        return value


class Recorded(BaseModel):
    """A part of a file that this program wrote; what later or earlier versions say beyond it is kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)

_TYPES = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a longer list",
}
_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_long": "at most {max_length} long",
}


def validate(schema: type[S], value: Mapping[str, Any], name: str, hint: Hint | None = None) -> S:
    """Check the content of a file, as JSON values; ``name`` is what messages call it.

    ``hint`` says what to do about an unknown key, where its nearest valid one is not the answer.

    Raises:
        SocratesError: with every problem, a line each.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise_problems(name, [*dict.fromkeys(_problem(schema, found, hint) for found in error.errors())])
        raise


def raise_problems(name: object, problems: Collection[str]) -> None:
    """SocratesError with all problems of a file, a line each; nothing where there are none."""
    if problems:
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise SocratesError("\n  ".join([f"{name}: {number}", *problems]))


def nearest(name: str, valid: Collection[str]) -> str:
    """What a wrong name may have meant, for the end of a message."""
    close = difflib.get_close_matches(name.strip().lower().replace(" ", "_"), valid, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; valid: {', '.join(valid)}"


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = _quoted(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _quoted(value: Any) -> str:
    """A value as JSON, for a terminal."""
    return escaped(json.dumps(value, ensure_ascii=False, default=str))


def text_problem(text: str, *, one_line: bool = False) -> str | None:
    """Why a text cannot be a prompt or a file's: half a character, a control character; None: it can."""
    for sign in "" if text.isprintable() else text:
        kind = unicodedata.category(sign)
        if kind == "Cs":
            return "holds half a character (\\ud800 to \\udfff)"
        if sign in "\n\r\u2028\u2029" and one_line:
            return "holds a line break"
        if kind == "Cc" and (one_line or sign not in "\n\r\t"):
            return f"holds a control character (U+{ord(sign):04X})"
    return None


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > 100_000:  # each of many prompts holds it once more
        raise ValueError(f"has {len(text):,} characters; at most 100,000 are taken")
    return text


def _clean(text: str, *, one_line: bool = False) -> str:
    if problem := text_problem(text, one_line=one_line):
        raise ValueError(problem)
    return text.strip()


def _clean_line(text: str) -> str:
    if text != _clean(text, one_line=True):
        raise ValueError("has white space around it")
    return text


Filled = Annotated[str, AfterValidator(_filled)]
Text = Annotated[Filled, AfterValidator(_clean)]  # without white space around it
Line = Annotated[Filled, AfterValidator(_clean_line)]  # a name: a text of one line
Share = Annotated[float, Field(ge=0, le=1)]


def _problem(schema: type[BaseModel], error: ErrorDetails, hint: Hint | None) -> str:
    *above, last = path = [str(part) for part in error["loc"]] or [""]
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        expected = _expected(schema, path)
        what = f"missing: {expected}" if expected else "missing"
    elif kind == "extra_forbidden":
        valid = list(_model_at(schema, above).model_fields)
        what = f"unknown key{(hint and hint(last, valid)) or nearest(last, valid)}"
    elif kind == "value_error":
        what = str(context["error"])
    elif kind == "literal_error":
        what = f"must be one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}, not {shown(got)}"
    elif kind in _BOUNDS:
        what = f"must be {_BOUNDS[kind].format(**context)}, not {shown(got)}"
    elif kind in _TYPES:
        what = f"must be {_expected(schema, path) or _TYPES[kind]}, not {shown(got)}"
    else:
        what = f"{error['msg'][0].lower()}{error['msg'][1:]}, not {shown(got)}"
    key = _quoted(".".join(part for part in path if part != "[key]" and "function-after[" not in part))
    return f"{key}: {what}" if path != [""] else what


def _model_at(schema: type[BaseModel], path: Collection[str]) -> type[BaseModel]:
    for key in path:
        if key in schema.model_fields:
            schema = model_of(schema.model_fields[key].annotation) or schema
    return schema


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation: itself, in a union, or what a mapping's or a list's values are."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in typing.get_args(annotation) if (model := model_of(part))), None)


def _expected(schema: type[BaseModel], path: list[str]) -> str | None:
    field = _model_at(schema, path[:-1]).model_fields.get(path[-1])
    return field.description if field else None
