#!/usr/bin/env python3
"""Run every command of TEST_RUN_GUIDE.md, README.md and VALIDATION_CRITERIA.md as printed; print what became of each.

  venv/bin/python tests/guide/run_guide.py [--keep FOLDER] [PAGE...]

Each page runs on a laptop of its own, from top to bottom. About five minutes on two cores. tests/guide/test_guide.py
does the same as part of ./scripts/test.sh.
Exit status: 0 each passed or is listed as not run, with its reason; 1 one failed; 2 it cannot be run, or a page breaks
the rules of guide_pages.py.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from guide_laptop import Laptop, fill_hub_cache  # noqa: E402
from guide_pages import PageError, parse_commands, read_page  # noqa: E402
from guide_walk import FAILED, NOT, PASSED, Result, Walk, unused_entries  # noqa: E402

PAGES = ("TEST_RUN_GUIDE.md", "README.md", "VALIDATION_CRITERIA.md")
VALIDATION_RUN = "models/socrates-qwen-500step-validation"
GUIDE_COMMANDS = Path(__file__).with_name("guide_commands.txt")


def guide_commands() -> list[str]:
    """The commands of the user's guide, in its order; some come several times."""
    return [command.text for command in parse_commands(GUIDE_COMMANDS.read_text(encoding="utf-8").splitlines())]


def walk_pages(place: Path, pages: list[str], tell: Callable[[Result], None]) -> list[Result]:
    """Run the pages in an empty folder, each on a laptop of its own; gives what became of each command.

    A laptop has seen no other page, but for the checkpoint of 500 steps that one has made: training it goes on there.
    """
    blocks = {page: read_page(ROOT / page) for page in pages}
    fill_hub_cache(place / "hub")
    results: list[Result] = []
    trained: Path | None = None
    for page in pages:
        laptop = Laptop(place / Path(page).stem, place / "hub")
        if trained and trained.is_dir():
            shutil.copytree(trained, laptop.folder / VALIDATION_RUN)
        trained = trained or laptop.folder / VALIDATION_RUN
        walk = Walk(laptop, tell)
        try:
            done = walk.page(blocks[page])
        finally:
            walk.end()
        results += walk.results
        if not done:
            break
    return results


def table(results: list[Result]) -> str:
    """A line for each command, and the two sums: of the pages, and of the user's guide."""
    lines = []
    for command, outcome, reason, seconds in results:
        where = f"{command.page}:{command.line}"
        words = command.key if len(command.key) <= 70 else command.key[:69] + "…"
        said = f"{outcome}: {reason.splitlines()[0]}" if reason else outcome
        lines.append(f"{where:<28} {words:<70} {seconds:6.1f} s  {said}")
    counts = {name: sum(result.outcome == name for result in results) for name in (PASSED, NOT, FAILED)}
    guide = guide_commands()
    ran = {result.command.text for result in results if result.outcome == PASSED}
    listed = {result.command.text: result.reason for result in results if result.outcome == NOT}
    passed = sum(text in ran for text in guide)
    reasons = sorted({f"{text!r} ({listed[text]})" for text in guide if text in listed and text not in ran})
    absent = sorted({text for text in guide if text not in ran and text not in listed})
    lines += [
        "",
        f"The pages' commands: {len(results)}; passed {counts[PASSED]}, not run {counts[NOT]}, failed {counts[FAILED]}",
        f"The user's guide: {len(guide)} commands, {len(set(guide))} distinct; run and passed {passed} "
        f"({len(set(guide) & ran)} distinct), not run {sum(text in listed and text not in ran for text in guide)}: "
        f"{', '.join(reasons) or 'none'}" + (f"; NOT REACHED: {absent}" if absent else ""),
    ]
    return "\n".join(lines)


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", default=list(PAGES), help="these only, in this order")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="work in this empty folder, and leave it there")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, all below would ignore it
    if find_spec("torch") is None:
        print("error: needs the project's environment: venv/bin/python tests/guide/run_guide.py", file=sys.stderr)
        return 2
    place = arguments.keep or Path(tempfile.mkdtemp(prefix="guide-"))
    place.mkdir(parents=True, exist_ok=True)

    def tell(result: Result) -> None:
        print(f"{result.outcome:<7} {result.seconds:6.1f} s  {result.command.page}:{result.command.line}  ", end="")
        print(f"{result.command.key}{f'  ({result.reason})' if result.reason else ''}", flush=True)

    try:
        if set(arguments.pages) == set(PAGES) and (unused := unused_entries(read_page(ROOT / page) for page in PAGES)):
            raise PageError(f"in the tables of guide_tables.py, but on no page: {unused}")
        results = walk_pages(place.resolve(), arguments.pages, tell)
        print(f"\n{table(results)}")
        failed = any(result.outcome == FAILED for result in results)
        return 1 if failed else 0
    except PageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if not arguments.keep:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
