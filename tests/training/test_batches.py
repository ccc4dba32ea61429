"""Which rows a step holds, and how processes share them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socrates.errors import SocratesError
from socrates.training.batches import StepOrder, plan_step

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=120)


def test_every_row_comes_once_an_epoch_in_an_order_that_follows_from_seed_and_step_alone():
    order = StepOrder(rows=1000, global_batch_size=256, seed=7)
    assert order.steps_per_epoch == 4
    epochs = [np.concatenate([order.rows_of(step) for step in range(4 * e, 4 * e + 4)]) for e in range(2)]
    for rows in epochs:
        assert sorted(rows) == list(range(1000))
    assert [len(order.rows_of(step)) for step in range(4)] == [256, 256, 256, 232]
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != np.arange(1000)).any()
    assert (StepOrder(1000, 256, seed=7).rows_of(5) == order.rows_of(5)).all(), "whatever was asked before"
    assert (StepOrder(1000, 256, seed=8).rows_of(5) != order.rows_of(5)).any()


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 8), st.integers(400, 3000))
def test_every_row_goes_to_one_micro_batch_and_none_is_over_the_limit(lengths, processes, limit):
    shares = plan_step(lengths, processes, limit)
    assert len(shares) == processes
    assert len({len(share) for share in shares}) == 1, "gradients are reduced after each micro-batch by all"
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(len(lengths)))
    sums = [[sum(lengths[row] for row in batch) for batch in share] for share in shares]
    for sizes in sums:
        assert max(sizes) <= limit and sizes == sorted(sizes, reverse=True)
    assert len(shares[0]) <= 2 * max(map(sum, sums)) / limit + 1, "no more than half full ones would be"


def test_processes_get_equal_tokens():
    lengths = np.random.default_rng(0).gamma(6, 60, 256).astype(int).clip(60, 2000)
    tokens = [sum(lengths[batch].sum() for batch in share) for share in plan_step(lengths, 4, 2048)]
    assert (max(tokens) - min(tokens)) / max(tokens) < 0.01


def test_a_step_smaller_than_the_number_of_processes_leaves_some_without_rows():
    assert [len(batch) for share in plan_step([10, 20], 4, 100) for batch in share] == [1, 1, 0, 0]


def test_a_row_that_fits_nowhere_is_refused():
    with pytest.raises(SocratesError, match=r"a row of 101 tokens .* micro-batch of 100"):
        plan_step([5, 101], 2, 100)
