"""Clean stops: before a cost limit would be passed, and on SIGTERM, a training saves a complete checkpoint and ends.

Covers: every rank stops after the same step, whichever of them was told; one that learns nothing, as its gradients are
never finite, ends with an error.
Does not cover: what kills after a time of its own. DeepSpeed's `launch.py` and torchrun, told to end, kill their ranks
after 30 s, so who wants a clean stop signals the ranks (the supervisor and `slurm.sbatch` do).
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from socrates.errors import SocratesError
from socrates.telemetry.cost import Account
from socrates.telemetry.recorder import Telemetry
from socrates.training.distributed import fail_together, gather

ASSUMED_SAVE = 120.0  # seconds, until this process has measured a save
STEPS_WITHOUT_UPDATE = 20  # in a row; DeepSpeed leaves a step out where a gradient is not finite
_LARGER = 'with a larger "max_cost_usd" in the config'


def cost_over_limit(
    account: Account, price_per_hour: float | None, max_cost_usd: float | None, saves: int = 1
) -> float | None:
    """US dollars that one more step and so many saves cost, where that would pass the limit; else None.

    The slowest of the last steps counts, and the slowest save.
    """
    if max_cost_usd is None or price_per_hour is None:
        return None
    save = ASSUMED_SAVE if account.save_seconds is None else account.save_seconds
    cost = price_per_hour * ((account.step_seconds or 0.0) + saves * save) / 3600
    return cost if (account.usd or 0.0) + cost > max_cost_usd else None


def refuse_if_spent(account: Account, price_per_hour: float | None, max_cost_usd: float | None) -> Account:
    """The account, if what is left under the limit is worth loading a model.

    Raises:
        SocratesError: what is left under the limit is too little for one step and its checkpoint.
    """
    # A first attempt may always try.
    if account.attempts and cost_over_limit(account, price_per_hour, max_cost_usd) is not None:
        raise SocratesError(
            f"max_cost_usd is ${max_cost_usd:,.2f}, and ${account.usd or 0.0:,.2f} are spent by this run's "
            f"{account.attempts} attempt{'' if account.attempts == 1 else 's'}: too little is left for a step and its "
            f"checkpoint; run the same command again {_LARGER}"
        )
    return account


class StopCleanly(TrainerCallback):
    """Stops a training; it must come after `TellProgress`, which measures steps and saves."""

    def __init__(self, telemetry: Telemetry, price_per_hour: float | None, max_cost_usd: float | None) -> None:
        """Who knows what is spent (rank 0's is asked), US dollars for the whole machine, and the limit."""
        self._telemetry, self._price, self._limit = telemetry, price_per_hour, max_cost_usd
        self._asked = False
        self._left_out = 0  # steps in a row
        self._hint: str | None = None  # once it stops: what to run the same command with

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGTERM, self._sigterm)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._left_out = self._left_out + 1 if getattr(kwargs.get("optimizer"), "step_was_skipped", False) else 0
        if self._left_out >= min(STEPS_WITHOUT_UPDATE, state.max_steps):
            fail_together(
                f"stopped at step {state.global_step} of {state.max_steps}: the last {self._left_out} steps changed no "
                "weight, their gradients were not finite; look for weights of the base model that are not finite, or "
                'write a smaller "training.learning_rate"; earlier checkpoints stay as they are'
            )
        if state.global_step >= state.max_steps:  # it ends and saves anyway, complete
            control.should_log = True  # the Trainer leaves the last steps out where they fill no line
            return
        saves = 1 + bool(control.should_save)  # one that is due now, and the one before the end
        account = self._telemetry.account()
        told = gather((self._asked, cost_over_limit(account, self._price, self._limit, saves)))
        more = told[0][1]  # rank 0's account counts
        if any(asked for asked, _ in told):
            self._telemetry.stopped, self._hint = "SIGTERM asked it to", ""
        elif more is not None:
            self._telemetry.stopped, self._hint = (
                f"one step more would pass max_cost_usd = ${self._limit or 0.0:,.2f} (${account.usd or 0.0:,.2f} are "
                f"spent, and up to ${more:,.2f} are kept for that step and what has to be saved)",
                f" {_LARGER}",
            )
        else:
            return
        control.should_log = True  # the next process' log begins after this step
        control.should_evaluate = False  # there may be little time
        control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._hint is not None and state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            print(
                f"Stopped at step {state.global_step} of {state.max_steps}: {self._telemetry.stopped}; {checkpoint} is "
                f"complete; to go on, run the same command again{self._hint}",
                flush=True,
            )

    def _sigterm(self, number: int, frame: object) -> None:
        self._asked = True
