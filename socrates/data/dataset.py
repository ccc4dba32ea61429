"""A prepared data set on disk: its splits, its `metadata.json`, and whether the splits are still what that says.

`metadata.json` is written last: a folder without it is not a prepared set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from socrates.errors import SocratesError
from socrates.files import read_json, remembered_sha256
from socrates.schema import Recorded, validate

VERSION = 1  # of the format; raise it when the same source and settings would give other bytes
PARTS = ("train", "val", "test")
METADATA = "metadata.json"
OWN = "own"  # the split that no published list makes


def _sums_to_one(shares: dict[str, float]) -> dict[str, float]:
    if abs(math.fsum(shares.values()) - 1) > 1e-3:
        raise ValueError("the probabilities of a scale's answers must sum to 1")
    return shares


_Answer = Annotated[str, Field(pattern=r"^-?[0-9]{1,16}([.][0-9]{1,4})?$")]
_Probability = Annotated[float, Field(ge=0, le=1)]
# Of each scale ("1 to 7"), the probability of each answer: the mean over training's questions with that scale.
ScalePriors = dict[str, Annotated[dict[_Answer, _Probability], AfterValidator(_sums_to_one)]]


class RecordedPriors(Recorded):
    """How people answer training's questions on each scale; null: not known."""

    scale_priors: ScalePriors | None = None


def part_file(folder: Path, part: str) -> Path:
    """The data file of a part."""
    return folder / f"{part}.jsonl"


def read_metadata(folder: Path | str) -> dict[str, Any]:
    """What a prepared set says about itself; at least "split", "rows" and "sha256" (both by part).

    Raises:
        SocratesError: no `metadata.json` (so that nothing is known of the folder), or one without these.
    """
    path = Path(folder) / METADATA
    metadata = read_json(path, "data set's metadata")
    rows, hashes = metadata.get("rows"), metadata.get("sha256")
    if not isinstance(rows, dict) or not isinstance(hashes, dict) or set(rows) != set(hashes):
        raise SocratesError(f'{path}: must hold "rows" and "sha256" of the same parts; prepare the data again')
    return metadata


def split_of(metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    """The split of a prepared set and what its units are: ("task", "task"), or ("own", "person"); None: not told."""
    name, settings = metadata.get("split"), metadata.get("settings")
    return name, (settings.get("by") if isinstance(settings, dict) else None) if name == OWN else name


def judged_by_person(folder: Path) -> bool:
    """Whether the data files of a folder are parts of an own split by person; without metadata they are not known to.

    Raises:
        SocratesError: its metadata are no JSON object.
    """
    path = folder / METADATA
    return path.is_file() and split_of(read_json(path, "data set's metadata")) == (OWN, "person")


def check_hash(file: Path, found: str, recorded: str) -> None:
    """SocratesError unless a data file's SHA-256 is the one in its metadata."""
    if found != recorded:
        raise SocratesError(
            f"{file}: data file changed after its metadata (sha256 {found[:12]}…, {METADATA} says {recorded[:12]}…); "
            "prepare the data again"
        )


def sha256_of_part(file: Path) -> str:
    """SHA-256 of a data file; where the metadata beside it describe such a file, it must be the one that they mean.

    A `metadata.json` without hashes was not written by this project and says nothing about the file.

    Raises:
        SocratesError: no such file, it was changed after its metadata, or these are no JSON object.
    """
    if not file.is_file():
        problem = "is a folder; name the .jsonl file in it" if file.is_dir() else "no such data file"
        raise SocratesError(f"{file}: {problem} (scripts/prepare_data.py makes a data set ready)")
    found = remembered_sha256(file)
    metadata = file.parent / METADATA
    if metadata.is_file() and file.suffix == ".jsonl":
        hashes = read_json(metadata, "data set's metadata").get("sha256")
        recorded = hashes.get(file.stem) if isinstance(hashes, dict) else None
        if isinstance(recorded, str):
            check_hash(file, found, recorded)
    return found


def read_scale_priors(folder: Path) -> ScalePriors | None:
    """How people answer training's questions on each scale; None where the set, if there is one, does not say.

    Raises:
        SocratesError: what it says of that cannot be used.
    """
    path = folder / METADATA
    metadata = read_json(path, "data set's metadata") if path.is_file() else {}
    return validate(RecordedPriors, metadata, str(path)).scale_priors
