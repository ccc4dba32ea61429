"""A progress bar where somebody looks: on a terminal, and not in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = " rows") -> Iterable[Item]:
    """The items, with a bar on standard error that says ``what`` is being done; silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, unit=unit, disable=not sys.stderr.isatty())


@contextmanager
def asking_progress(tokens: Sequence[int], done: Collection[int]) -> Iterator[Callable[[Sequence[int]], None]]:
    """A bar for asking a model: rows, tokens a second, time left; it is told which rows were answered.

    Args:
        tokens: of every row. The longest rows come first, so the time left follows tokens, not rows.
        done: indices of the rows that were answered before.
    """
    from tqdm import tqdm

    rows = len(done)
    bar = tqdm(
        desc="asking the model",
        total=sum(tokens),
        initial=sum(tokens[index] for index in done),
        unit=" tokens",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )

    def advance(batch: Sequence[int]) -> None:
        nonlocal rows
        rows += len(batch)
        bar.set_description(f"asking the model: {rows} of {len(tokens)} rows", refresh=False)
        bar.update(sum(tokens[index] for index in batch))

    with bar:
        advance(())
        yield advance
