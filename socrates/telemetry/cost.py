"""Cost of a run so far, over all its attempts: paid time and money.

It travels in `.progress.json` (after every step) and in each checkpoint's `training_cost.json`, so that a resume, also
on another machine, goes on counting. Counted is the time of training processes, from the start of rank 0's process;
an idle machine, which is paid for as well, is not (`scripts/status.sh` shows it).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import finite, read_json

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
    saved = parse_account(_read(checkpoint / TRAINING_COST)) if checkpoint else None
    running = parse_account(_read(folder / ".progress.json").get("account"))
    run = saved.run if saved and saved.run else run
    records = [record for record in (saved, running) if record is not None and (record is saved or record.run == run)]
    best = max(records, key=lambda record: record.seconds, default=Account())
    usd = (price_per_hour or 0.0) * best.seconds / 3600 if best.usd is None else best.usd
    return replace(best, run=run, usd=None if price_per_hour is None else usd, save_seconds=None)


def parse_account(value: Any) -> Account | None:
    """An account from its JSON; None for what is none."""
    try:
        names = [item.name for item in fields(Account) if item.name not in ("run", "attempts")]
        numbers = {name: float(finite(value[name], 0, 1e12)) for name in names if value.get(name) is not None}
        return Account(run=str(value["run"]), attempts=int(value["attempts"]), **numbers)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except SocratesError:  # none yet
        return {}
