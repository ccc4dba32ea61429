"""Which rows a step holds, and how processes share them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socrates.errors import SocratesError
from socrates.training.batches import StepOrder, plan_step

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=120)


def test_every_row_comes_once_an_epoch_and_each_epoch_has_its_own_order():
    order = StepOrder(rows=1000, global_batch_size=256, seed=7)
    assert order.steps_per_epoch == 4
    epochs = [np.concatenate([order.rows_of(step) for step in range(4 * e, 4 * e + 4)]) for e in range(2)]
    for rows in epochs:
        assert sorted(rows) == list(range(1000))
    assert [len(order.rows_of(step)) for step in range(4)] == [256, 256, 256, 232]
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != np.arange(1000)).any()


def test_a_steps_rows_follow_from_seed_and_step_alone():
    one, other = (StepOrder(1000, 64, seed=3) for _ in range(2))
    list(map(one.rows_of, range(40)))  # whatever was asked before
    assert (one.rows_of(21) == other.rows_of(21)).all()
    assert (StepOrder(1000, 64, seed=4).rows_of(21) != other.rows_of(21)).any()


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 8), st.integers(400, 3000))
def test_every_row_goes_to_one_micro_batch_and_none_is_over_the_limit(lengths, processes, limit):
    plan = plan_step(lengths, processes, limit)
    assert len(plan.shares) == processes
    assert len({len(share) for share in plan.shares}) == 1, "gradients are reduced after each micro-batch by all"
    taken = [row for share in plan.shares for batch in share for row in batch]
    assert sorted(taken) == list(range(len(lengths)))
    for share, tokens in zip(plan.shares, plan.tokens, strict=True):
        sums = [sum(lengths[row] for row in batch) for batch in share]
        assert max(sums) <= limit and sum(sums) == tokens
        assert sums == sorted(sums, reverse=True)


@given(LENGTHS, st.integers(1, 4), st.integers(400, 3000))
def test_no_more_micro_batches_than_half_full_ones_would_be(lengths, processes, limit):
    plan = plan_step(lengths, processes, limit)
    assert len(plan.shares[0]) <= 2 * max(plan.tokens) / limit + 1


def test_processes_get_equal_tokens():
    lengths = np.random.default_rng(0).gamma(6, 60, 256).astype(int).clip(60, 2000)
    plan = plan_step(lengths, 4, 2048)
    assert plan.spread < 0.01
    assert plan.spread == (max(plan.tokens) - min(plan.tokens)) / max(plan.tokens)


def test_a_step_smaller_than_the_number_of_processes_leaves_some_without_rows():
    plan = plan_step([10, 20], 4, 100)
    assert [len(batch) for share in plan.shares for batch in share] == [1, 1, 0, 0]


def test_a_row_that_fits_nowhere_is_refused():
    with pytest.raises(SocratesError, match=r"a row of 101 tokens .* micro-batch of 100"):
        plan_step([5, 101], 2, 100)
