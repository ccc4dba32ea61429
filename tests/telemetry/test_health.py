"""What looks like a bad run: a loss that is no number, and GPUs that idle."""

import math

import pytest

from socrates.telemetry.health import IDLE_WINDOW, Watch


def test_a_loss_or_gradient_norm_that_is_no_number():
    watch = Watch()
    watch.line(10, 1.0, 0.5)
    assert not watch.active
    for step in (20, 30):
        watch.line(step, math.nan, math.inf)
        assert watch.active["loss"].startswith("the loss is not a number, since step 20: stop it and go on ")
    watch.line(40, 1.0, 0.5)
    assert not watch.active
    watch.line(50, 1.0, math.nan)
    assert watch.active["loss"].startswith("the gradient norm is not a number, since step 50")


def warned(use, seconds):
    """When which warnings begin; ``use`` gives each GPU's at a time, sampled every 5 seconds."""
    watch, begun = Watch(), {}
    for time in range(0, seconds, 5):
        watch.gpus(time, enumerate(use(time)))
        for text in watch.active.values():
            begun.setdefault(text, time)
    return begun, watch


def test_one_idle_gpu_among_busy_ones_is_named_after_a_whole_window():
    begun, watch = warned(lambda time: (99.0, 0.0 if time > 200 else 99.0, 98.0), 900)
    ((text, time),) = begun.items()
    assert 200 + IDLE_WINDOW <= time <= 200 + IDLE_WINDOW + 10
    assert text.startswith("GPU 1 has been idle (below 5%) for 5 minutes: ")
    watch.line(10, math.nan)
    watch.gpus(901, [(2, 80.0)])
    assert len(watch.active) == 2
    watch.gpus(901, [(1, 80.0)])
    assert len(watch.active) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda time: (0.0 if time % 60 else 40.0,),  # a sample in a minute is busy: noise, not idleness
        lambda time: (None,),  # the driver does not tell
        lambda time: (0.0 if time < 280 else 90.0,),  # a long save
    ],
)
def test_what_is_no_idle_window(use):
    assert not warned(use, 2000)[0]
