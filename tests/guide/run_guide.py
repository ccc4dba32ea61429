#!/usr/bin/env python3
"""Run every command of TEST_RUN_GUIDE.md, README.md and VALIDATION_CRITERIA.md as printed; print what became of each.

  venv/bin/python tests/guide/run_guide.py [PAGE...]

Each page runs on a laptop of its own, from top to bottom. About five minutes on two cores. tests/guide/test_guide.py
does the same as part of ./scripts/test.sh.
Exit status: 0 each passed or is listed as not run, with its reason; 1 one failed, or a page breaks the rules of
guide_pages.py.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from guide_laptop import Laptop, fill_hub_cache  # noqa: E402
from guide_pages import read_page  # noqa: E402
from guide_walk import FAILED, Result, Walk  # noqa: E402

PAGES = ("TEST_RUN_GUIDE.md", "README.md", "VALIDATION_CRITERIA.md")
VALIDATION_RUN = "models/socrates-qwen-500step-validation"


def walk_pages(pages: list[str]) -> list[Result]:
    """Run the pages, each on a laptop of its own; prints and gives what became of each command.

    A laptop has seen no other page, but for the checkpoint of 500 steps that one has made: training it goes on there.
    """
    blocks = {page: read_page(ROOT / page) for page in pages}
    # Short, without a space: DeepSpeed's own command needs that.
    place = Path(tempfile.mkdtemp(prefix="guide-")).resolve()
    results: list[Result] = []
    trained: Path | None = None
    try:
        fill_hub_cache(place / "hub")
        for page in pages:
            laptop = Laptop(place / Path(page).stem, place / "hub")
            if trained and trained.is_dir():
                shutil.copytree(trained, laptop.folder / VALIDATION_RUN)
            trained = trained or laptop.folder / VALIDATION_RUN
            walk = Walk(laptop, _tell)
            try:
                done = walk.page(blocks[page])
            finally:
                walk.end()
            results += walk.results
            if not done:
                break
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return results


def _tell(result: Result) -> None:
    command, outcome, reason, seconds = result
    print(f"{outcome:<7} {seconds:6.1f} s  {command.where}  {command.key}" + f"  ({reason})" * bool(reason), flush=True)


if __name__ == "__main__":
    counts = Counter(result.outcome for result in walk_pages(sys.argv[1:] or list(PAGES)))
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    sys.exit(1 if counts[FAILED] else 0)
