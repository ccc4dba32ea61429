"""Preparation of a data set: `train.jsonl`, `val.jsonl`, `test.jsonl`, and `metadata.json` last.

One pass over the source writes its rows as lines into `OUTPUT/.preparing/`; there these are divided into the parts,
which are read again for the proof that nothing leaks. The `metadata.json` that describes them, written last, makes them
the set of this folder; then the files are moved there. A run that is ended before that leaves a folder that the next
run removes; after it, the next run moves the files. An earlier set's `metadata.json` is gone before the first file that
it does not describe.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.dataset import METADATA, OWN, PARTS, VERSION, part_file, sha256_of_part
from socrates.data.prepare.leaks import prove_no_leak
from socrates.data.prepare.lines import Lines, write_lines
from socrates.data.prepare.sources import PUBLISHED, Source, open_source
from socrates.data.prepare.splits import (
    BY,
    MAPPINGS,
    PERSON,
    Group,
    Split,
    assign_parts,
    choose_sample,
    load_split,
    own_split,
)
from socrates.data.records import read_answers
from socrates.errors import SocratesError
from socrates.files import (
    cannot_write,
    file_identity,
    read_json,
    sha256_file,
    sha256_json,
    sync_folder,
    take_lock,
    write_json,
)

WORK, LOCK = ".preparing", ".preparing.lock"
_ALL = "rows.jsonl"
_NOWHERE = -1  # in place of a part's number


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the bytes of a prepared set, besides the source.

    Attributes:
        split: "study", "condition" or "task": which published lists are applied; "own": none, but a choice by seed.
        val_share: of the evaluation rows that `val` gets, as nearly as whole units allow.
        seed: of which units that are, and of a sample.
        sample: about how many rows to keep, in whole cells (by person: whole people); None keeps all.
        by: what stays together in an own split: "study", "condition", "task" or "person".
        judge_share: of all rows that `val` and `test` of an own split get, as nearly as whole units allow; 0.2 if None.
    """

    split: str = "study"
    val_share: float = 0.5
    seed: int = 0
    sample: int | None = None
    by: str | None = None
    judge_share: float | None = None

    def __post_init__(self) -> None:
        if self.split == OWN and self.judge_share is None:
            object.__setattr__(self, "judge_share", 0.2)
        if self.split == OWN and self.by not in BY.values():
            raise SocratesError(f"--split own needs --by {', '.join(BY)}: what must not be in two parts")
        if self.split != OWN and (self.by, self.judge_share) != (None, None):
            raise SocratesError("--by and --judge-share go with --split own; the other splits follow published lists")
        for name, share in (("val", self.val_share), ("judge", self.judge_share)):
            if share is not None and not 0 < share < 1:
                raise SocratesError(f"--{name}-share: must be between 0 and 1, not {share}")
        if self.seed < 0:
            raise SocratesError(f"--seed: must be 0 or more, not {self.seed}")
        if self.sample is not None and self.sample < 1:
            raise SocratesError(f"--sample: must be 1 or more, not {self.sample}")

    def recorded(self) -> dict[str, Any]:
        """As `metadata.json` holds them: those that the split has."""
        own = {"by", "judge_share"} if self.split != OWN else set()
        return {name: value for name, value in asdict(self).items() if name not in own}


def prepare(
    output: Path,
    settings: PrepareSettings | None = None,
    *,
    source: str = PUBLISHED,
    revision: str | None = None,
    columns: Path | None = None,
    max_bad_rows: int = 0,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Write a prepared set.

    Args:
        output: its folder.
        settings: which rows go where.
        source: hub name, folder or file.
        revision: of a hub's repository.
        columns: the `columns.json` of a source of another layout.
        max_bad_rows: more stop it.
        overwrite: whether data files that are there, and are another set's, may be replaced.

    Returns:
        What its `metadata.json` says; None if the folder holds exactly this set already.

    Raises:
        SocratesError: a bad row too many, a source that cannot be read, another set in the way, no space.
    """
    settings = settings or PrepareSettings()
    if max_bad_rows < 0:
        raise SocratesError(f"--max-bad-rows: must be 0 or more, not {max_bad_rows}")
    there = open_source(source, revision if overwrite else _recorded_commit(output, source, revision), columns)
    inside = {folder.resolve() for folder in (there.folder, *(file.parent for file in there.files))}  # links too
    if any(map(output.resolve().is_relative_to, inside)) and Path(source).expanduser().is_dir():
        raise SocratesError(f"--output {output}: lies in the source's folder; choose a folder outside of it")
    lists = None if settings.split == OWN else there.find_beside(MAPPINGS[settings.split])
    split = lists and load_split(settings.split, lists)
    print(f"Source: {_shown(there)}", flush=True)
    before = [file_identity(file) for file in there.files]
    recipe = _recipe(there, lists, settings)
    with _locked(output):
        if not overwrite and _holds(output, recipe, there.origin):
            return None
        metadata = _write_set(output / WORK, there, split, settings, recipe, max_bad_rows)
        if [file_identity(file) for file in there.files] != before:  # what was read is not what was hashed
            raise SocratesError(f"{source}: a file of it was changed while it was read; run the same command again")
        write_json(output / WORK / METADATA, metadata)
    return metadata


# --- the output folder ---------------------------------------------------------------------------------------------


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Make the folder, keep every other preparation out of it; settle what there is before, and what is written now."""
    try:
        remedy = "; wait, or choose another --output"
        with take_lock(output / LOCK, f"{output}: another preparation is writing there now", remedy):
            _settle(output)
            try:
                yield
            finally:
                _settle(output)
    except (FileExistsError, NotADirectoryError) as error:
        raise SocratesError(f"--output {output}: is no folder, or lies below a file; choose another one") from error
    except OSError as error:
        raise cannot_write(output, error) from error


def _settle(output: Path) -> None:
    """Move the files of a finished set to their places, the metadata last; remove what is left of an unfinished one."""
    work = output / WORK
    if (work / METADATA).exists():
        (output / METADATA).unlink(missing_ok=True)  # an earlier set's: it must not vouch for these files
        sync_folder(output)
        for part in PARTS:
            if part_file(work, part).exists():  # an earlier call may have been ended
                part_file(work, part).replace(part_file(output, part))
        sync_folder(output)
        (work / METADATA).replace(output / METADATA)
        sync_folder(output)
    shutil.rmtree(work, ignore_errors=True)


def _recorded_commit(output: Path, name: str, revision: str | None) -> str | None:
    """The commit that a set of the same name and revision was prepared from; else the revision.

    A branch may move between two runs of one command; what the second does must not depend on that.
    """
    there = read_json(output / METADATA, "data set's metadata") if (output / METADATA).is_file() else {}
    origin = there.get("source")
    is_same = isinstance(origin, dict) and (origin.get("name"), origin.get("revision")) == (name, revision)
    return origin.get("commit") if is_same else revision


def _holds(output: Path, recipe: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very set, unchanged.

    Raises:
        SocratesError: it holds another one, or this one with a data file changed.
    """
    present = [name for name in (METADATA, *(f"{part}.jsonl" for part in PARTS)) if (output / name).exists()]
    there = read_json(output / METADATA, "data set's metadata") if METADATA in present else {}
    if there.get("recipe_sha256") == sha256_json(recipe):
        for part in PARTS:
            sha256_of_part(part_file(output, part))
        return True
    if present:
        raise SocratesError(
            f"{output}: holds {', '.join(present)} of {_difference(there, recipe, origin)}; choose another --output, "
            "or replace them with --overwrite"
        )
    return False


def _difference(there: Mapping[str, Any], recipe: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """What sets the set that is there apart, as far as its metadata says."""
    if not isinstance(settings := there.get("settings"), dict):
        return "which nothing is known"
    found = [
        f"{key} {settings.get(key)} (now {new})" for key, new in recipe["settings"].items() if settings.get(key) != new
    ]
    source = there["source"]
    if source["commit"] != origin["commit"] and source["name"] == origin["name"]:
        found.append(
            f"commit {source['commit']} (now {origin['commit']}; --revision {source['commit']} gives the same data)"
        )
    elif (source["files"], source["lists"]) != (recipe["files"], recipe["lists"]):
        found.append(f"another source ({source['name']}), or of files that have changed since")
    return ", ".join(found) or "another version of this program"


def _recipe(source: Source, lists: Path | None, settings: PrepareSettings) -> dict[str, Any]:
    """What decides the bytes: the source's files and the published lists by hash, and the settings."""
    try:
        files = {file.relative_to(source.folder).as_posix(): sha256_file(file) for file in source.files}
        files |= {"--columns": sha256_file(source.columns)} if source.columns else {}
        hashes = {lists.name: sha256_file(lists)} if lists else {}
    except OSError as error:
        raise SocratesError(f"{error.filename}: cannot read: {error.strerror or error}") from error
    return {"version": VERSION, "files": files, "lists": hashes, "settings": settings.recorded()}


def _shown(source: Source) -> str:
    files = f"{len(source.files)} data file{'s' * (len(source.files) != 1)}"
    if source.commit is None:
        return f"{source.name} ({files})"
    return (
        f"{source.name}, commit {source.commit} ({source.revision or 'the newest one'}; {files})\n"
        f"  metadata.json records it; --revision {source.commit} gives the same data at any time"
    )


# --- the files -----------------------------------------------------------------------------------------------------


def _write_set(
    work: Path,
    source: Source,
    split: Split | None,
    settings: PrepareSettings,
    recipe: dict[str, Any],
    max_bad_rows: int,
) -> dict[str, Any]:
    """Write the data files of a set into ``work`` and prove that nothing leaks; returns its metadata."""
    work.mkdir()
    by = settings.by or settings.split
    lines = write_lines(work / _ALL, source, by, split, max_bad_rows)
    if not lines.groups:
        if split is None:
            raise SocratesError(f"{source.name}: no row of it can be used")
        hint = "; rows of the instruction layout have no task_num, which it needs" if by == "task" else ""
        raise SocratesError(f"{source.name}: no row of it is in a list of the {by} split{hint}")
    sizes = dict(zip(lines.groups, np.bincount(lines.group).tolist(), strict=True))
    if split is None:
        split = own_split(sizes, by, settings.judge_share, settings.seed, read_answers(work / _ALL))
    if settings.sample:
        sizes = choose_sample(sizes, split, settings.sample, settings.seed)
    rows = _divide(work, lines, assign_parts(sizes, split, settings.val_share, settings.seed), by)
    print("Checking the written files for leaks", flush=True)
    found = prove_no_leak(work, by, rows)
    return {
        "version": VERSION,
        "source": {**source.origin, "files": recipe["files"], "lists": recipe["lists"]},
        "split": settings.split,
        "settings": recipe["settings"],
        **found,
        "left_out": {
            reason: {"rows": names.total(), "where": dict(sorted(names.items()))}
            for reason, names in sorted(lines.left_out.items())
        },
        "bad_rows": {"rows": lines.bad, "allowed": max_bad_rows, "first": lines.first_bad},
        "recipe_sha256": sha256_json(recipe),
    }


def _divide(work: Path, lines: Lines, parts: Mapping[Group, str], by: str) -> dict[str, int]:
    """Write each line to its part; returns the rows of each.

    Lines of `train` whose prompt is in `val` or `test` too are left out, unless the split is by person; SocratesError
    if no line is left.
    """
    groups, group, prompt = list(lines.groups), np.array(lines.group), np.array(lines.prompt)
    part = np.array([PARTS.index(parts[one]) if one in parts else _NOWHERE for one in groups])[group]
    repeated = (by != PERSON) & (part == 0) & np.isin(prompt, prompt[part > 0])
    if repeated.any():
        studies = Counter(groups[number][0] for number in group[repeated].tolist())
        lines.left_out["prompt of train that is in val or test too"] = studies
    part[repeated] = _NOWHERE
    if not (part == 0).any():
        raise SocratesError(
            f"split by {by}: every prompt of train is in val or test too, so that nothing is left to train on; "
            "--split own --by person can divide such rows"
        )
    with ExitStack() as stack:
        files = [stack.enter_context(part_file(work, name).open("wb")) for name in PARTS]
        text = stack.enter_context((work / _ALL).open("rb"))
        for line, number in zip(text, part.tolist(), strict=True):
            if number != _NOWHERE:
                files[number].write(line)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    (work / _ALL).unlink()
    return {name: int((part == number).sum()) for number, name in enumerate(PARTS)}
