"""Cost of a run so far, over all its attempts: paid time and money.

It travels in `.progress.json` (after every step) and in each checkpoint's `training_cost.json`, so that a resume, also
on another machine, goes on counting. Counted is the time of training processes, from the start of rank 0's process;
an idle machine, which is paid for as well, is not (`scripts/status.sh` shows it).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.telemetry.reading import read_as

TRAINING_COST = "training_cost.json"


@dataclass(frozen=True)
class Account:
    """What the attempts of one run have used; None is unknown."""

    run: str = ""  # its identity (`resume.run_identity` of its first start)
    attempts: int = 0  # that began to train
    seconds: float = 0.0  # paid, of all attempts
    usd: float | None = None  # what they cost, each at its own price
    step_seconds: float | None = None  # the longest of the last steps
    save_seconds: float | None = None  # the longest save of the last attempt; another machine has another disk


def account_before(folder: Path, checkpoint: Path | None, run: str, price_per_hour: float | None) -> Account:
    """What earlier attempts of a run have used, by the record that knows most.

    Args:
        folder: the output folder, whose progress counts if it is the same run's.
        checkpoint: the one that the run goes on from, which is this run's by that.
        run: the identity of a run that starts over, or whose checkpoint has no account.
        price_per_hour: US dollars; for time whose price is not on record.
    """
    saved = running = None
    with suppress(SocratesError, TypeError, ValueError):  # there is none, or none that can be read
        saved = read_as(Account, read_json(checkpoint / TRAINING_COST), low=0) if checkpoint else None
    with suppress(SocratesError, TypeError, ValueError):
        running = read_as(Account | None, read_json(folder / ".progress.json").get("account"), low=0)
    run = saved.run if saved and saved.run else run
    records = [record for record in (saved, running) if record is not None and (record is saved or record.run == run)]
    best = max(records, key=lambda record: record.seconds, default=Account())
    usd = (price_per_hour or 0.0) * best.seconds / 3600 if best.usd is None else best.usd
    return replace(best, run=run, usd=None if price_per_hour is None else usd, save_seconds=None)
