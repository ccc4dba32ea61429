"""Output folder of a preparation: a finished set, an unfinished one in `.preparing/`, both, or neither.

Covers: final names appear only for files that are complete, `metadata.json` last; an earlier set's `metadata.json` is
gone before the first file that it does not describe; one preparation at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from socrates.data.dataset import METADATA, PARTS, check_unchanged, part_file
from socrates.data.prepare.shards import read_note
from socrates.errors import SocratesError
from socrates.files import read_json, sha256_json, sync_folder, try_lock, write_json

WORK, LOCK = ".preparing", ".preparing.lock"
_RECIPE, _ORIGIN = "recipe.json", "source.json"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make the folder and keep every other preparation out of it. SocratesError if one is there, or it cannot be."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / LOCK).open("a")
    except (FileExistsError, NotADirectoryError) as error:
        raise SocratesError(f"--output {output}: is no folder, or lies below a file; choose another one") from error
    except OSError as error:
        raise SocratesError(f"{output}: cannot write: {error.strerror or error}") from error
    with file:
        if not try_lock(file):
            raise SocratesError(f"{output}: another preparation is writing there now; wait, or choose another --output")
        yield


def commit_begun(output: Path, name: str, revision: str | None, overwrite: bool) -> str | None:
    """The hub's commit that this folder holds, or was begun with, when the same name and revision were asked for.

    A branch may move between two runs of one command; what the second does must not depend on that.

    Args:
        output: the folder.
        name: of the data set, as the user gave it.
        revision: as the user gave it.
        overwrite: whether a finished set is to be replaced, so that only an unfinished one counts.
    """
    if (output / METADATA).is_file() and not overwrite:
        origin = read_json(output / METADATA, "data set's metadata").get("source")
    elif (output / WORK / _ORIGIN).is_file():
        origin = read_json(output / WORK / _ORIGIN, "record of an unfinished preparation")
    else:
        return None
    if not isinstance(origin, dict) or (origin.get("name"), origin.get("revision")) != (name, revision):
        return None
    return origin.get("commit")


def holds(output: Path, recipe: Mapping[str, Any], origin: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether the folder holds this very set, unchanged.

    Raises:
        SocratesError: it holds another one that may not be replaced, or this one with a data file changed.
    """
    there = read_json(output / METADATA, "data set's metadata") if (output / METADATA).is_file() else {}
    if there.get("recipe_sha256") == sha256_json(recipe):
        if overwrite:
            return False
        check_unchanged(output)
        if _recipe_of(output / WORK) in (None, recipe):  # what a run left that was ended right after its last step
            shutil.rmtree(output / WORK, ignore_errors=True)
        return True
    work = output / WORK
    moving = (work / METADATA).exists() and _recipe_of(work) == recipe  # finished, but for what is still in `work`
    names = [METADATA, *(f"{part}.jsonl" for part in PARTS)]
    present = [name for name in names if (output / name).exists() and not (moving and not (work / name).exists())]
    if present and not overwrite:
        raise SocratesError(
            f"{output}: holds {', '.join(present)} of {_difference(there, recipe, origin)}; choose another --output, "
            "or replace them with --overwrite"
        )
    return False


def _difference(there: Mapping[str, Any], recipe: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """What sets the set that is there apart, as far as its metadata says."""
    if not isinstance(source := there.get("source"), dict) or not isinstance(settings := there.get("settings"), dict):
        return "which nothing is known"
    asked = recipe["settings"]
    found = [f"{key} {settings.get(key)} (now {asked[key]})" for key in asked if settings.get(key) != asked[key]]
    if source.get("commit") != origin["commit"] and source.get("name") == origin["name"]:
        found.append(
            f"commit {source['commit']} (now {origin['commit']}; --revision {source['commit']} gives the same data)"
        )
    elif source.get("files") != recipe["files"] or source.get("lists") != recipe["lists"]:
        found.append(f"another source ({source.get('name')}), or of files that have changed since")
    return ", ".join(found) or "another version of this program"


def recorded_recipe(output: Path) -> dict[str, Any] | None:
    """The recipe of the finished set in this folder, as far as its metadata says; None if there is none."""
    if not (output / METADATA).is_file():
        return None
    there = read_json(output / METADATA, "data set's metadata")
    source = there.get("source")
    if not isinstance(source, dict):
        return None
    recipe = {
        "version": there.get("version"),
        "files": source.get("files"),
        "lists": source.get("lists"),
        "settings": there.get("settings"),
    }
    return recipe if there.get("recipe_sha256") == sha256_json(recipe) else None


def begin(work: Path, recipe: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Go on with the unfinished preparation that is there if it is of the same recipe; else start over.

    Args:
        work: `.preparing/` of the folder.
        recipe: what decides the bytes.
        origin: "name" and "revision" of the source as the user gave them, and its "commit".
    """
    note = read_note(work)
    complete = all(_size(part_file(work, part)) >= size for part, size in note["bytes"].items())
    known = _recipe_of(work)
    if known == recipe and (complete or (work / METADATA).exists()):
        print("Going on with what an earlier run has done", flush=True)
        return
    try:
        if work.exists():
            if known not in (None, recipe):
                print("Starting over: an unfinished run in this folder had another source or other settings")
            (work / _RECIPE).unlink(missing_ok=True)  # first: what is left of the rest must not look usable
            shutil.rmtree(work)
        work.mkdir(parents=True)
    except OSError as error:
        raise SocratesError(f"{work}: cannot write: {error.strerror or error}") from error
    write_json(work / _ORIGIN, origin)
    write_json(work / _RECIPE, recipe)


def move(work: Path, output: Path) -> dict[str, Any]:
    """Give the files their final names, the metadata last; may be called again after it was interrupted."""
    metadata = read_json(work / METADATA, "data set's metadata")
    try:
        if any(part_file(work, part).exists() for part in PARTS):
            (output / METADATA).unlink(missing_ok=True)  # an earlier set's: it must not vouch for these files
            sync_folder(output)
        for part in PARTS:
            if part_file(work, part).exists():
                part_file(work, part).replace(part_file(output, part))
        sync_folder(output)
        (work / METADATA).replace(output / METADATA)
        sync_folder(output)
    except OSError as error:
        raise SocratesError(f"{output}: cannot write: {error.strerror or error}") from error
    shutil.rmtree(work, ignore_errors=True)
    return metadata


def _recipe_of(work: Path) -> dict[str, Any] | None:
    return read_json(work / _RECIPE, "record of an unfinished preparation") if (work / _RECIPE).exists() else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
