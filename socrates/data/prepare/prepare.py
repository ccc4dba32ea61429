"""The published data set to a prepared one: `train.jsonl`, `val.jsonl`, `test.jsonl`, and `metadata.json` last.

Everything is written in `OUTPUT/.preparing/` (see `output_folder.py`) and moved to its final name once the proof of no
leak was made. A run that was ended, by whatever, leaves that folder; the same command goes on from it and ends with the
same bytes.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from socrates.console import progress
from socrates.data.dataset import METADATA, VERSION
from socrates.data.prepare.assembling import assemble, make_plan, read_note
from socrates.data.prepare.data_hub import open_source
from socrates.data.prepare.leaks import prove_no_leak
from socrates.data.prepare.output_folder import WORK, begin, commit_begun, holds, locked, move, recorded_recipe
from socrates.data.prepare.record import bad_rows_message, make_metadata
from socrates.data.prepare.shards import Task, count_cells, do_piece
from socrates.data.prepare.sources import PUBLISHED, Source, cut_into_pieces
from socrates.data.prepare.splits import JUDGE, MAPPINGS, TRAIN, Split, load_split
from socrates.data.records import Cell
from socrates.data.selection import choose_cells
from socrates.errors import SocratesError
from socrates.files import file_identity, sha256_file, write_json
from socrates.parallel import map_in_order

_SECONDS_A_LINE = 30.0
_SIDES = {TRAIN: "training", JUDGE: "judging"}
_SMALL = 2**25  # bytes of a source for which starting workers takes longer than it saves
Item = TypeVar("Item")


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a prepared set, besides the source.

    Attributes:
        split: "study", "condition" or "task": which published lists are applied.
        val_share: of the judging rows that `val` gets, as nearly as whole units allow.
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
    settings: Settings | None = None,
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
    settings = settings or Settings()
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
    settings: Settings,
    recipe: dict[str, Any],
    identities: list[dict[str, int]],
    max_bad_rows: int,
    processes: int | None,
) -> dict[str, Any]:
    work = output / WORK
    begin(work, recipe, source.origin)
    if not (work / METADATA).exists():
        tasks = [Task(n, piece, work, split) for n, piece in enumerate(cut_into_pieces(source))]
        if settings.sample:
            cells = _choose_sample(tasks, split, settings.sample, settings.seed, processes)
            tasks = [Task(task.number, task.piece, work, split, cells) for task in tasks]
        infos = _do_pieces(tasks, max_bad_rows, processes)
        if list(map(file_identity, source.files)) != identities:  # what was read is not what was hashed
            shutil.rmtree(work)
            raise SocratesError(
                f"{source.name}: a file of it was changed while it was read; run the same command again"
            )
        if not any(info["rows"] for info in infos):
            hint = "; rows of the instruction layout have no task_num, which it needs" if split.name == "task" else ""
            raise SocratesError(f"{source.name}: no row of it is in a list of the {split.name} split{hint}")
        plan = make_plan(tasks, infos, split, settings.val_share, settings.seed)
        left = len(tasks) - read_note(work)["pieces"]
        for _ in _told(assemble(tasks, infos, plan, work), "writing", left):
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


def _recipe(source: Source, lists: Path, settings: Settings, processes: int | None) -> dict[str, Any]:
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


def _needs_no_source(output: Path, name: str, commit: str | None, settings: Settings) -> bool:
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
    sizes: dict[str, dict[Cell, int]] = {TRAIN: {}, JUDGE: {}}
    counts = map_in_order(count_cells, tasks, processes)
    for found in _told(counts, "counting", len(tasks)):
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


def _do_pieces(tasks: list[Task], max_bad_rows: int, processes: int | None) -> list[dict[str, Any]]:
    for task in tasks[read_note(tasks[0].folder)["pieces"] :] if tasks else ():
        if not task.file(".jsonl").exists():  # its text was lost, whatever its record says
            task.file(".json").unlink(missing_ok=True)
    infos: list[dict[str, Any]] = []
    done = map_in_order(do_piece, tasks, processes)
    for info in _told(done, "reading", len(tasks)):
        infos.append(info)
        if sum(one["bad"] for one in infos) > max_bad_rows:
            raise SocratesError(bad_rows_message(tasks, infos, max_bad_rows))
    return infos


def _told(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with a bar on a terminal, and in a log a line now and then."""
    last, quiet = time.monotonic(), not sys.stderr.isatty()
    for count, item in enumerate(progress(items, what, total=total, unit=" pieces"), start=1):
        yield item
        if quiet and time.monotonic() - last > _SECONDS_A_LINE:
            last = time.monotonic()
            print(f"  {what}: {count} of {total} pieces", flush=True)
