"""Clean stops: before a cost limit would be passed, and on SIGTERM, a training saves a complete checkpoint and ends.

Covers: every rank stops after the same step, whichever of them was told; the checkpoint verifies; the process then
exits with 0. A second SIGTERM, some seconds later, ends the process at once. Does not cover: SIGTERM while the model
is loaded (the process ends, nothing is lost), and what kills after a time of its own: DeepSpeed's `launch.py` and
torchrun, told to end, kill their ranks after 30 s, so who wants a clean stop signals the ranks (the supervisor and
`examples/cluster/slurm.sbatch` do).
"""

from __future__ import annotations

import os
import signal
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from socrates.errors import SocratesError
from socrates.telemetry.cost import Account
from socrates.telemetry.recorder import Telemetry
from socrates.training.distributed import max_over_ranks

ASSUMED_SAVE = 120.0  # seconds, until this process has measured a save
# Who signals a whole process tree makes `launch.py` signal the ranks once more, at once.
_SAME_REQUEST = 5.0  # seconds
_LARGER = 'with a larger "max_cost_usd" in the config'


class Why(IntEnum):
    """Why a training stops; of two reasons the larger counts."""

    NOT = 0
    COST = 1
    SIGNAL = 2


def cost_of_going_on(account: Account, price_per_hour: float, saves: int = 1) -> float:
    """US dollars that one more step and so many saves cost: the slowest of the last steps, the slowest save.

    Before a step was measured only the save counts.
    """
    save = ASSUMED_SAVE if account.save_seconds is None else account.save_seconds
    return price_per_hour * ((account.step_seconds or 0.0) + saves * save) / 3600


def would_pass(account: Account, price_per_hour: float | None, max_cost_usd: float | None, saves: int = 1) -> bool:
    """Whether one more step and so many saves would pass the limit."""
    if max_cost_usd is None or price_per_hour is None:
        return False
    return (account.usd or 0.0) + cost_of_going_on(account, price_per_hour, saves) > max_cost_usd


def refuse_if_spent(account: Account, price_per_hour: float | None, max_cost_usd: float | None) -> None:
    """To be called before a model is loaded.

    Raises:
        SocratesError: what is left under the limit is too little for one step and its checkpoint.
    """
    if account.attempts and would_pass(account, price_per_hour, max_cost_usd):  # a first attempt may always try
        raise SocratesError(
            f"max_cost_usd is ${max_cost_usd:,.2f}, and ${account.usd or 0.0:,.2f} are spent by this run's "
            f"{account.attempts} attempt{'' if account.attempts == 1 else 's'}: too little is left for a step and its "
            f"checkpoint; run the same command again {_LARGER}"
        )


class StopCleanly(TrainerCallback):
    """Stops a training; it must come after `TellProgress`, which measures steps and saves."""

    def __init__(self, telemetry: Telemetry, price_per_hour: float | None, max_cost_usd: float | None) -> None:
        """Who knows what is spent (rank 0's is asked), US dollars for the whole machine, and the limit."""
        self._telemetry, self._price, self._limit = telemetry, price_per_hour, max_cost_usd
        self._asked: float | None = None  # when SIGTERM came
        self._before: Any = None
        self._why = Why.NOT

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._before = signal.signal(signal.SIGTERM, self._sigterm)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:  # it ends and saves anyway, complete
            return
        own = Why.SIGNAL if self._asked is not None else Why.NOT
        saves = 1 + bool(control.should_save)  # one that is due now, and the one before the end
        if state.is_world_process_zero and would_pass(self._telemetry.account(), self._price, self._limit, saves):
            own = max(own, Why.COST)
        self._why = Why(max_over_ranks(own))
        if self._why is Why.NOT:
            return
        self._telemetry.stopped = self._reason(self._telemetry.account(), saves)
        control.should_log = True  # the next process' log begins after this step
        control.should_evaluate = False  # there may be little time
        control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if self._why is not Why.NOT and state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            print(
                f"Stopped at step {state.global_step} of {state.max_steps}: {self._telemetry.stopped}; {checkpoint} is "
                f"complete; to go on, run the same command again{f' {_LARGER}' if self._why is Why.COST else ''}",
                flush=True,
            )

    def _sigterm(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked > _SAME_REQUEST:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _reason(self, account: Account, saves: int) -> str:
        if self._why is Why.SIGNAL:
            return "SIGTERM asked it to"
        more = cost_of_going_on(account, self._price or 0.0, saves)
        return (
            f"one step more would pass max_cost_usd = ${self._limit or 0.0:,.2f} (${account.usd or 0.0:,.2f} are "
            f"spent, and up to ${more:,.2f} are kept for that step and what has to be saved)"
        )
