"""Preparation of the published data set: `train.jsonl`, `val.jsonl`, `test.jsonl`, and `metadata.json` last.

Everything is written in `OUTPUT/.preparing/` (see `output_folder.py`) and moved to its final name once the proof of no
leak was made. A run that was ended, by whatever, leaves that folder; the same command goes on from it and ends with the
same bytes.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from socrates.console import progress
from socrates.data.dataset import METADATA, VERSION
from socrates.data.prepare.data_hub import open_source
from socrates.data.prepare.leaks import LeakReport, prove_no_leak
from socrates.data.prepare.output_folder import WORK, begin, commit_begun, holds, locked, move, recorded_recipe
from socrates.data.prepare.shards import LISTED, Task, assemble, do_shard, plan_splits, read_note, rows_by_cell
from socrates.data.prepare.sources import PUBLISHED, Shard, Source, cut_into_shards
from socrates.data.prepare.splits import EVALUATION, MAPPINGS, TRAIN, Split, Unit, load_split
from socrates.data.records import Cell
from socrates.data.selection import choose_cells
from socrates.errors import SocratesError
from socrates.files import file_identity, sha256_file, sha256_json, write_json
from socrates.parallel import map_in_order

_SECONDS_A_LINE = 30.0
_SIDES = {TRAIN: "training", EVALUATION: "evaluation"}
_SMALL = 2**25  # bytes of a source for which starting workers takes longer than it saves
Item = TypeVar("Item")
_SHOWN = 10  # bad rows that a message names
_PACKAGES = ("huggingface_hub", "numpy", "pyarrow")


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the bytes of a prepared set, besides the source.

    Attributes:
        split: "study", "condition" or "task": which published lists are applied.
        val_share: of the evaluation rows that `val` gets, as nearly as whole units allow.
        seed: of which units that are, and of a sample.
        sample: about how many rows to keep, in whole cells; None keeps all.
    """

    split: str = "study"
    val_share: float = 0.5
    seed: int = 0
    sample: int | None = None

    def __post_init__(self) -> None:
        if self.split not in MAPPINGS:
            raise SocratesError(f"--split: must be one of {', '.join(MAPPINGS)}, not {self.split!r}")
        if not 0 < self.val_share < 1:
            raise SocratesError(f"--val-share: must be between 0 and 1, not {self.val_share}")
        if self.seed < 0:
            raise SocratesError(f"--seed: must be 0 or more, not {self.seed}")
        if self.sample is not None and self.sample < 1:
            raise SocratesError(f"--sample: must be 1 or more, not {self.sample}")


def prepare(
    output: Path,
    settings: PrepareSettings | None = None,
    *,
    source: str = PUBLISHED,
    revision: str | None = None,
    max_bad_rows: int = 0,
    overwrite: bool = False,
    processes: int | None = None,
) -> dict[str, Any] | None:
    """Write a prepared set.

    Args:
        output: its folder.
        settings: which rows go where.
        source: hub name, folder or file.
        revision: of a hub's repository.
        max_bad_rows: more stop it.
        overwrite: whether data files that are there, and are another set's, may be replaced.
        processes: that read, at most; None takes one a core.

    Returns:
        What its `metadata.json` says; None if the folder holds exactly this set already.

    Raises:
        SocratesError: a bad row too many, a source that cannot be read, another set in the way, no space.
    """
    settings = settings or PrepareSettings()
    if max_bad_rows < 0:
        raise SocratesError(f"--max-bad-rows: must be 0 or more, not {max_bad_rows}")
    commit = commit_begun(output, source, revision, overwrite)
    if not overwrite and _needs_no_source(output, source, commit, settings):
        print(f"Source: {source}, commit {commit}, which {output} was prepared from", flush=True)
        return None
    there = open_source(source, revision, commit)
    if output.resolve().is_relative_to(there.folder.resolve()) and Path(source).expanduser().is_dir():
        raise SocratesError(f"--output {output}: lies in the source's folder; choose a folder outside of it")
    lists = there.find_beside(MAPPINGS[settings.split])
    split = load_split(settings.split, lists)
    print(f"Source: {_shown(there, commit)}", flush=True)
    if processes is None and sum(file.stat().st_size for file in there.files) < _SMALL:
        processes = 1
    identities = list(map(file_identity, there.files))
    recipe = _recipe(there, lists, settings, processes)
    with locked(output):
        if holds(output, recipe, there.origin, overwrite):
            return None
        try:
            return _prepare(output, there, split, settings, recipe, identities, max_bad_rows, processes)
        except KeyboardInterrupt:
            print("What was done so far is kept: the same command goes on from there", file=sys.stderr)
            raise


def _prepare(
    output: Path,
    source: Source,
    split: Split,
    settings: PrepareSettings,
    recipe: dict[str, Any],
    identities: list[dict[str, int]],
    max_bad_rows: int,
    processes: int | None,
) -> dict[str, Any]:
    work = output / WORK
    begin(work, recipe, source.origin)
    if not (work / METADATA).exists():
        tasks = [Task(n, shard, work, split) for n, shard in enumerate(cut_into_shards(source))]
        if settings.sample:
            cells = _choose_sample(tasks, split, settings.sample, settings.seed, processes)
            tasks = [Task(task.number, task.shard, work, split, cells) for task in tasks]
        infos = _do_shards(tasks, max_bad_rows, processes)
        if list(map(file_identity, source.files)) != identities:  # what was read is not what was hashed
            shutil.rmtree(work)
            raise SocratesError(
                f"{source.name}: a file of it was changed while it was read; run the same command again"
            )
        if not any(info["rows"] for info in infos):
            hint = "; rows of the instruction layout have no task_num, which it needs" if split.name == "task" else ""
            raise SocratesError(f"{source.name}: no row of it is in a list of the {split.name} split{hint}")
        plan = plan_splits(tasks, infos, split, settings.val_share, settings.seed)
        left = len(tasks) - read_note(work)["pieces"]
        for _ in _reported(assemble(tasks, infos, plan, work), "writing", left):
            pass
        note = read_note(work)
        print("Checking the written files for leaks", flush=True)
        try:
            report = prove_no_leak(work, split.name, note["rows"], processes)
        except SocratesError:
            shutil.rmtree(work)  # damaged since it was written, or a defect: the next run must not go on from it
            raise
        metadata = make_metadata(source, recipe, tasks, infos, note, report, max_bad_rows, plan.val)
        write_json(work / METADATA, metadata)
    return move(work, output)


def _recipe(source: Source, lists: Path, settings: PrepareSettings, processes: int | None) -> dict[str, Any]:
    """What decides the bytes: the source's files and the published lists by hash, and the settings."""
    hashes = list(map_in_order(_hash, list(source.files), processes))
    names = [file.relative_to(source.folder).as_posix() for file in source.files]
    return {
        "version": VERSION,
        "files": dict(zip(names, hashes, strict=True)),
        "lists": {lists.name: _hash(lists)},
        "settings": asdict(settings),
    }


def _hash(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        raise SocratesError(f"{file}: cannot read: {error.strerror or error}") from error


def _needs_no_source(output: Path, name: str, commit: str | None, settings: PrepareSettings) -> bool:
    """Whether a finished set is the one asked for, where its metadata can tell: a commit's files never change.

    Raises:
        SocratesError: it has other settings, which can be said before anything is downloaded or read.
    """
    known = recorded_recipe(output)
    if known is None or (commit is None and known["settings"] == asdict(settings)):
        return False
    asked = known | {"version": VERSION, "settings": asdict(settings)}
    with locked(output):
        return holds(output, asked, {"name": name, "commit": commit}, overwrite=False)


def _shown(source: Source, begun: str | None) -> str:
    files = f"{len(source.files)} data file{'s' * (len(source.files) != 1)}"
    if source.commit is None:
        return f"{source.name} ({files})"
    why = "with which this was begun" if begun else "the newest one" if source.revision is None else source.revision
    return (
        f"{source.name}, commit {source.commit} ({why}; {files})\n"
        f"  metadata.json records it; --revision {source.commit} gives the same data at any time"
    )


def _choose_sample(tasks: list[Task], split: Split, rows: int, seed: int, processes: int | None) -> frozenset[Cell]:
    """Whole cells with about ``rows`` rows together, from both sides as the source has them."""
    sizes: dict[str, dict[Cell, int]] = {TRAIN: {}, EVALUATION: {}}
    counts = map_in_order(rows_by_cell, tasks, processes)
    for found in _reported(counts, "counting", len(tasks)):
        for cell, count in found.items():
            side = sizes[split.side(cell) or TRAIN]
            side[cell] = side.get(cell, 0) + count
    totals = {side: sum(cells.values()) for side, cells in sizes.items()}
    if rows >= sum(totals.values()):
        return frozenset(cell for cells in sizes.values() for cell in cells)
    chosen: set[Cell] = set()
    for side, cells in sizes.items():
        share = round(rows * totals[side] / max(sum(totals.values()), 1))
        picked = choose_cells(cells, share, seed)
        if cells and not picked:
            raise SocratesError(
                f"--sample {rows}: too few for whole cells; the {_SIDES[side]} rows would be {share}, and their "
                f"smallest cell (study, condition, question) holds {min(cells.values())}; take a larger sample"
            )
        chosen |= picked
    return frozenset(chosen)


def _do_shards(tasks: list[Task], max_bad_rows: int, processes: int | None) -> list[dict[str, Any]]:
    for task in tasks[read_note(tasks[0].folder)["pieces"] :] if tasks else ():
        if not task.file(".jsonl").exists():  # its text was lost, whatever its record says
            task.file(".json").unlink(missing_ok=True)
    infos: list[dict[str, Any]] = []
    done = map_in_order(do_shard, tasks, processes)
    for info in _reported(done, "reading", len(tasks)):
        infos.append(info)
        if sum(one["bad"] for one in infos) > max_bad_rows:
            raise SocratesError(bad_rows_message(tasks, infos, max_bad_rows))
    return infos


def _reported(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with a bar on a terminal, and in a log a line now and then."""
    last, quiet = time.monotonic(), not sys.stderr.isatty()
    for count, item in enumerate(progress(items, what, total=total, unit=" shards"), start=1):
        yield item
        if quiet and time.monotonic() - last > _SECONDS_A_LINE:
            last = time.monotonic()
            print(f"  {what}: {count} of {total} shards", flush=True)


def bad_rows_message(tasks: Sequence[Task], infos: Sequence[Mapping[str, Any]], max_bad_rows: int) -> str:
    """What to tell a user whose source holds more bad rows than allowed; the shards so far are in ``infos``."""
    bad, unit = list(shown_bad_rows([task.shard for task in tasks], infos)), tasks[0].shard.unit
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
    """All that `metadata.json` says, from the recipe, what each shard and the appending counted, and the proof."""
    shards = [task.shard for task in tasks]
    bad = [
        {"file": Path(file).relative_to(source.folder).as_posix(), shards[0].unit: number, "reason": reason}
        for file, number, reason in shown_bad_rows(shards, infos)
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


def shown_bad_rows(shards: Collection[Shard], infos: Collection[Mapping[str, Any]]) -> Iterator[tuple[str, int, str]]:
    """Every named bad row so far, in order, as (file, number in the file, reason); for `shards` done from the first."""
    before: dict[Path, int] = {}
    for shard, info in zip(shards, infos, strict=False):
        offset = before.get(shard.path, 0)
        for number, reason in info["first_bad"]:
            yield str(shard.path), offset + number, reason
        before[shard.path] = offset + info["lines"]
