"""Provenance of the number: what it is, what it rests on, and what it is no substitute for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.console import Table
from socrates.files import finite
from socrates.report.part import Material, Part
from socrates.report.results_folders import NONE, Results, section_of

_MEANING = (
    "W is the first Wasserstein distance between all people's answers in a cell (a question in one condition of a "
    "study) and the model's for those asked about, in units of the range of the human answers.",
    "Cells are averaged within a study, then studies, as in the SOCRATES paper (arXiv 2509.05830); there, of all rows, "
    "the untrained 14B model has 0.205, a uniform guess 0.203, the trained one 0.151 and human answers against "
    "themselves 0.125.",
)
_LIMITS = (
    "What this cannot tell: a low W says that distributions look alike, not that the model knows why people answer or "
    "what they would say to a new question. It is no substitute for asking people."
)


def basis_part(material: Material) -> Part:
    """The meaning of W, and a table of rows, model, settings, versions and dates."""
    lines = [*_MEANING, *_coverage(material.subject), *_intervals(material.subject), _LIMITS]
    for one in material.main:
        if one.missing:
            lines.append(f"Not in {one.folder}: {'; '.join(one.missing)}.")
    results = material.main
    columns = [_provenance(one) for one in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = tuple((name, *(column.get(name, NONE) for column in columns)) for name in names)
    table = Table(
        ("what", *(one.label for one in results)), rows, left=1 + len(results), title="What the numbers rest on"
    )
    return Part(
        "basis",
        "What the number is",
        tuple(lines),
        tables=(table,),
        kind="words",
        most=len(rows),
    )


def _coverage(results: Results) -> list[str]:
    """What asking about some of the people only does to W."""
    coverage = section_of(results.metrics, "coverage")
    rows, people = finite(coverage.get("rows")), finite(coverage.get("human_answers"))
    if rows is None or people is None or rows >= people:
        return []
    return [
        f"The model was asked about {rows:,.0f} of {people:,.0f} answers. W then reads higher, by about 0.005 with 20 "
        "asked in a cell; what --max-examples 0 gives, which asks about all, compares with the paper's figures."
    ]


def _intervals(results: Results) -> list[str]:
    """What the intervals resample, and so what they are about."""
    method = _text(section_of(results.metrics, "intervals").get("method"))
    if results.distance.limits is None or method is None:
        return []
    if finite(section_of(results.metrics, "coverage").get("studies_scored")) == 1:
        return [
            "Intervals (95%) resample the cells of the one study that is scored: they say nothing of other studies."
        ]
    return [f"Intervals (95%): {method}. They tell how W would vary over other studies like these."]


def _provenance(results: Results) -> dict[str, str]:
    """Provenance by name, those that are recorded."""
    coverage, about = section_of(results.metrics, "coverage"), results.about
    settings, versions = section_of(about, "settings"), section_of(about, "versions")
    comparability = section_of(results.metrics, "comparability")
    mass, seen = results.value("valid_mass").value, results.metrics.get("seen")
    intervals = section_of(results.metrics, "intervals")
    decoding = comparability.get("decoding")
    provenance = {
        "rows evaluated": _of(coverage, "rows_predicted", "rows", "with an answer"),
        "rows scored": _number(coverage.get("rows_scored")),
        "human answers": _number(coverage.get("human_answers")),
        "cells scored": _of(coverage, "cells_scored", "cells"),
        "studies scored": _of(coverage, "studies_scored", "studies"),
        "cells skipped": _skipped(coverage),
        "mass on valid answers": None if mass is None else f"{100 * mass:.1f}%",
        "rows that the model was trained on": "not recorded"
        if not isinstance(seen, Mapping)
        else f"{_number(seen.get('rows')) or NONE} of {_number(seen.get('of')) or NONE}",
        "model": _text(about.get("model")),
        "base model": _text(about.get("base_model")),
        "data file": _text(about.get("data_file")),
        "most examples": _number(section_of(settings, "evaluation").get("max_examples")),
        "decoding": ", ".join(f"{key} {value}" for key, value in decoding.items() if value is not None)
        if isinstance(decoding, Mapping)
        else _text(decoding),
        "system message": _text(section_of(settings, "prompt").get("system_message")),
        "seed": _text(comparability.get("seed")),
        "intervals": ", ".join(f"{key} {value}" for key, value in intervals.items()) or None,
        "precision and device": " ".join(filter(None, (_text(about.get("dtype")), _text(about.get("device"))))),
        "metric version": _text(comparability.get("metric_version")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
        "evaluated": _text(about.get("created")),
        "results": str(results.folder),
    }
    return {name: text for name, text in provenance.items() if text}


def _of(record: Mapping[str, Any], part: str, whole: str, what: str = "") -> str | None:
    one, other = _number(record.get(part)), _number(record.get(whole))
    if one is None or other is None:
        return one or other
    return f"{one} of {other}{' ' + what if what else ''}"


def _skipped(coverage: Mapping[str, Any]) -> str | None:
    skipped = section_of(coverage, "skipped")
    if not skipped:
        return None
    return ", ".join(f"{_number(cells)}: {reason}" for reason, cells in skipped.items() if cells) or "none"


def _number(value: Any) -> str | None:
    number = finite(value)
    return None if number is None else f"{number:,.0f}"


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
