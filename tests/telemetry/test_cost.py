"""What earlier attempts of a run have used."""

from dataclasses import asdict

import pytest

from socrates.files import write_json
from socrates.telemetry.cost import TRAINING_COST, Account, account_before

DEBT = {"run": "a", "attempts": 1, "seconds": 9.0, "usd": -3000}  # would loosen max_cost_usd


def account_files(folder, told=None, saved=None):
    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir()
    if told:
        write_json(folder / ".progress.json", {"step": 4, "account": asdict(told)})
    if saved:
        write_json(checkpoint / TRAINING_COST, asdict(saved))
    return checkpoint


def test_of_two_accounts_of_one_run_the_larger_counts(tmp_path):
    saved = Account(run="a", attempts=1, seconds=100.0, usd=2.0, save_seconds=1.0)
    checkpoint = account_files(tmp_path, Account(run="a", attempts=2, seconds=150.0, usd=3.0), saved)
    before = account_before(tmp_path, checkpoint, "b", 7.2)
    assert (before.run, before.attempts, before.seconds, before.usd) == ("a", 2, 150.0, 3.0)
    assert before.save_seconds is None, "another machine has another disk"


def test_another_runs_progress_does_not_count_and_the_checkpoints_account_is_the_runs_own(tmp_path):
    checkpoint = account_files(tmp_path, Account(run="a", seconds=150.0), Account(run="c", seconds=100.0, usd=2.0))
    assert account_before(tmp_path, checkpoint, "b", 7.2).seconds == 100.0
    assert account_before(tmp_path, None, "b", 7.2) == Account(run="b", usd=0.0)
    assert account_before(tmp_path, None, "a", 3.6).usd == pytest.approx(3.6 * 150 / 3600), "at the price of now"
    assert account_before(tmp_path, None, "a", None).usd is None


def test_without_records_or_with_damaged_ones_it_begins_at_nothing(tmp_path):
    checkpoint = account_files(tmp_path)
    assert account_before(tmp_path, checkpoint, "a", 1.0) == Account(run="a", usd=0.0)
    (tmp_path / ".progress.json").write_text('{"account": [')
    (checkpoint / TRAINING_COST).write_text('{"run": 1}')
    assert account_before(tmp_path, checkpoint, "a", 1.0) == Account(run="a", usd=0.0)
    for value in (None, 5, {"run": "a", "attempts": "x"}, {"run": "a", "attempts": 1, "usd": []}, DEBT):
        write_json(tmp_path / ".progress.json", {"account": value})
        assert account_before(tmp_path, None, "a", 1.0) == Account(run="a", usd=0.0)
