"""Clean stops: the decision, and the callback without a Trainer; `test_interrupted.py` stops real trainings."""

import os
import re
import signal
import time
from types import SimpleNamespace

import psutil
import pytest

from socrates.errors import SocratesError
from socrates.telemetry.cost import Account
from socrates.telemetry.log import read_progress
from socrates.telemetry.recorder import Telemetry
from socrates.training.stopping import ASSUMED_SAVE, STEPS_WITHOUT_UPDATE, StopCleanly, cost_over_limit, refuse_if_spent

PRICE = 3600.0  # US dollars an hour: a second costs a dollar


@pytest.mark.parametrize(
    "spent, step, save, saves, passes",
    [
        (80.0, 15.0, 5.0, 1, False),  # to the cent
        (80.01, 15.0, 5.0, 1, True),
        (80.0, 10.0, 5.0, 2, False),  # a save that is due now counts besides the one before the end
        (80.01, 10.0, 5.0, 2, True),
        (99.0, 15.0, 5.0, 1, True),
        (0.0, 15.0, None, 1, True),  # no save was measured: one is assumed
        (0.0, None, 5.0, 1, False),
        (100.0, None, 0.0, 1, False),
    ],
)
def test_a_step_and_its_saves_must_fit_under_the_limit(spent, step, save, saves, passes):
    account = Account(attempts=1, usd=spent, step_seconds=step, save_seconds=save)
    assert (cost_over_limit(account, PRICE, 100.0, saves) is not None) is passes
    assert cost_over_limit(account, PRICE, None) is cost_over_limit(account, None, 100.0) is None


def test_a_run_that_stopped_for_its_limit_is_refused_with_both_numbers():
    stopped = Account(attempts=3, usd=99.2, step_seconds=1.0, save_seconds=None)
    with pytest.raises(SocratesError, match=r'\$100\.00, and \$99\.20 are spent .*3 attempts.*"max_cost_usd"'):
        refuse_if_spent(stopped, PRICE, 100.0)
    refuse_if_spent(stopped, PRICE, 250.0)
    refuse_if_spent(stopped, PRICE, None)
    refuse_if_spent(Account(), PRICE, 1.0)  # a first attempt may always try
    assert cost_over_limit(Account(step_seconds=16.0), 7.2, 0.1) == pytest.approx(7.2 * (16 + ASSUMED_SAVE) / 3600)


class Loop:
    """As much of the Trainer's loop as the callback sees."""

    def __init__(self, folder, max_cost_usd=None, **before):
        self.telemetry = Telemetry(folder, before=Account(**before), price_per_hour=PRICE)
        self.callback = StopCleanly(self.telemetry, PRICE, max_cost_usd)
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, max_steps=5, is_world_process_zero=True)
        self.telemetry.begin(0, 5)
        self.callback.on_train_begin(self.args, self.state, None)

    def step(self, optimizer=None, **wanted):
        control = SimpleNamespace(
            should_save=False, should_training_stop=False, should_log=False, should_evaluate=True, **wanted
        )
        self.state.global_step += 1
        self.telemetry.step(self.state.global_step, 5)
        self.callback.on_step_end(self.args, self.state, control, optimizer=optimizer)
        return control

    def end(self):
        self.telemetry.end()
        self.callback.on_train_end(self.args, self.state, None)


@pytest.fixture
def default_sigterm():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_saves_after_the_step_and_tells_how_to_go_on(tmp_path, capsys, default_sigterm):
    loop = Loop(tmp_path)
    assert not loop.step().should_training_stop
    for _ in range(3):  # whoever signals a process tree makes the launcher signal the ranks again
        os.kill(os.getpid(), signal.SIGTERM)
    control = loop.step()
    assert control.should_save and control.should_training_stop and control.should_log
    assert not control.should_evaluate
    loop.end()
    said = capsys.readouterr().out
    assert "Stopped at step 2 of 5: SIGTERM asked it to; " in said and "checkpoint-2 is complete; to go on, run" in said
    assert "max_cost_usd" not in said
    assert read_progress(tmp_path).stopped == "SIGTERM asked it to"


def test_asked_to_stop_in_its_last_step_it_is_simply_complete(tmp_path, capsys, default_sigterm):
    loop = Loop(tmp_path, max_cost_usd=0.01)
    loop.state.global_step = 4
    os.kill(os.getpid(), signal.SIGTERM)
    assert not loop.step().should_save, "the Trainer saves the last step by itself"
    loop.end()
    assert "Stopped" not in capsys.readouterr().out and read_progress(tmp_path).stopped is None


def test_so_many_steps_in_a_row_that_change_no_weight_end_the_training(tmp_path, default_sigterm):
    loop = Loop(tmp_path)
    loop.state.max_steps = 100
    for skipped in [True] * (STEPS_WITHOUT_UPDATE - 1) + [False] + [True] * (STEPS_WITHOUT_UPDATE - 1):
        loop.step(SimpleNamespace(step_was_skipped=skipped))
    with pytest.raises(SocratesError, match="stopped at step 40 of 100: the last 20 steps changed no weight"):
        loop.step(SimpleNamespace(step_was_skipped=True))


def test_the_limit_counts_what_earlier_attempts_cost(tmp_path, capsys, default_sigterm):
    age = time.time() - psutil.Process().create_time()
    loop = Loop(tmp_path, max_cost_usd=age + 1000 + ASSUMED_SAVE, usd=100.0)
    assert not loop.step().should_training_stop
    loop.end()
    loop = Loop(tmp_path, max_cost_usd=age + 1000 + ASSUMED_SAVE, usd=1001.0)
    assert loop.step().should_training_stop
    loop.end()
    said = capsys.readouterr().out
    assert '"max_cost_usd" in the config' in said
    assert re.search(rf"and up to \${ASSUMED_SAVE:.0f}\.\d\d are kept for that step and what has to be saved", said)
