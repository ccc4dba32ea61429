"""What a preparation says about itself: its `metadata.json`, and the bad rows by file and number."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from socrates.data.dataset import VERSION
from socrates.data.prepare.leaks import LeakReport
from socrates.data.prepare.shards import LISTED, Task
from socrates.data.prepare.sources import Piece, Source
from socrates.data.prepare.splits import Unit
from socrates.files import sha256_json

_SHOWN = 10  # bad rows that a message names
_PACKAGES = ("huggingface_hub", "numpy", "pyarrow")


def bad_rows_message(tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], max_bad_rows: int) -> str:
    """What to tell a user whose source holds more bad rows than allowed; the pieces so far are in ``infos``."""
    bad, unit = list(shown_bad_rows([task.piece for task in tasks], infos)), tasks[0].piece.unit
    lines = [f"{file}, {unit} {number}: {reason}" for file, number, reason in bad[:_SHOWN]]
    count = sum(info["bad"] for info in infos)
    lines += [f"… and {count - _SHOWN:,} more"] if count > _SHOWN else []
    return "\n  ".join(lines) + (
        f"\n  {count} bad row{'s' * (count != 1)} so far, {max_bad_rows} allowed: put the source right, or leave bad "
        "rows out with --max-bad-rows N"
    )


def make_metadata(
    source: Source,
    recipe: Mapping[str, Any],
    tasks: Sequence[Task],
    infos: Sequence[Mapping[str, Any]],
    note: Mapping[str, Any],
    report: LeakReport,
    max_bad_rows: int,
    val: Iterable[Unit],
) -> dict[str, Any]:
    """All that `metadata.json` says, from the recipe, what each piece and the appending counted, and the proof."""
    pieces = [task.piece for task in tasks]
    bad = [
        {"file": Path(file).relative_to(source.folder).as_posix(), pieces[0].unit: number, "reason": reason}
        for file, number, reason in shown_bad_rows(pieces, infos)
    ]
    left_out: dict[str, dict[str, int]] = {}
    for info in infos:
        for reason, names in info["left_out"].items():
            counts = left_out.setdefault(reason, {})
            for name, rows in names.items():
                counts[name] = counts.get(name, 0) + rows
    if note["repeated"]:
        left_out["prompt of train that is in val or test too"] = note["repeated"]
    return {
        "version": VERSION,
        "source": {**source.origin, "files": recipe["files"], "lists": recipe["lists"]},
        "split": report.split,
        "settings": recipe["settings"],
        "rows": dict(report.rows),
        "sha256": dict(report.sha256),
        "counts": {name: dict(getattr(report, name)) for name in ("studies", "units", "cells", "prompts")},
        "left_out": {
            reason: {"rows": sum(names.values()), "where": dict(sorted(names.items()))}
            for reason, names in sorted(left_out.items())
        },
        "bad_rows": {"rows": sum(info["bad"] for info in infos), "allowed": max_bad_rows, "first": bad[:LISTED]},
        "val_units": sorted(map(list, val), key=str),
        "no_leak": {"unit": report.unit, "shared_units": 0, "shared_prompts": dict(report.shared_prompts)},
        "recipe_sha256": sha256_json(recipe),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}},
    }


def shown_bad_rows(pieces: Collection[Piece], infos: Collection[Mapping[str, Any]]) -> Iterator[tuple[str, int, str]]:
    """Every named bad row so far, in order, as (file, number in the file, reason); for `pieces` done from the first."""
    before: dict[Path, int] = {}
    for piece, info in zip(pieces, infos, strict=False):
        offset = before.get(piece.path, 0)
        for number, reason in info["first_bad"]:
            yield str(piece.path), offset + number, reason
        before[piece.path] = offset + info["lines"]
