"""A progress bar where somebody looks: on a terminal, and not in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = " rows") -> Iterable[Item]:
    """The items, with a bar on standard error that says ``what`` is being done; silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, unit=unit, disable=not sys.stderr.isatty())
