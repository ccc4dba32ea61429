"""What looks like a bad run: a loss that is no number, and GPUs that idle."""

import math

import pytest

from socrates.telemetry.health import IDLE_GRACE, IDLE_WINDOW, Watch


def test_a_loss_or_gradient_norm_that_is_no_number():
    watch = Watch(0.0)
    assert not watch.line(10, 1.0, 0.5)
    (line,) = watch.line(20, math.nan, math.inf)
    assert line.startswith("WARNING: the loss and the gradient norm are no numbers, since step 20: stop it and go on ")
    assert watch.line(30, math.inf) == [] and watch.active, "said once"
    assert watch.line(40, 1.0, 0.5) == ["Over at step 40: the loss is a number again"] and not watch.active
    assert watch.line(50, 1.0, math.nan)


# GPUs.


def watched(use, seconds, watch=None, start=0.0, every=5.0):
    """What is said of samples; ``use`` gives each GPU's at a time."""
    watch = watch or Watch(0.0)
    lines, time = [], start
    while time < start + seconds:
        lines += [(time, line) for line in watch.gpus(time, enumerate(use(time)))]
        time += every
    return lines, watch


def test_one_idle_gpu_among_busy_ones_is_named_after_a_whole_window():
    lines, watch = watched(lambda time: (99.0, 0.0 if time > 200 else 99.0, 98.0), 900)
    ((time, line),) = lines
    assert 200 + IDLE_WINDOW <= time <= 200 + IDLE_WINDOW + 10
    assert line.startswith("WARNING: GPU 1 has been idle (below 5%) for 5 minutes: ")
    assert watch.active == (line.removeprefix("WARNING: "),)
    lines, _ = watched(lambda time: (99.0, 80.0, 98.0), 5, watch, start=900)
    assert lines == [(900, "Over: GPU 1 works again")] and not watch.active


def test_the_start_is_not_judged():
    lines, _ = watched(lambda time: (0.0,), IDLE_GRACE + IDLE_WINDOW - 5)
    assert not lines


@pytest.mark.parametrize(
    "use",
    [
        lambda time: (0.0 if time % 60 else 40.0,),  # a sample in a minute is busy: noise, not idleness
        lambda time: (None,),  # the driver does not tell
        lambda time: (0.0 if time < 400 else 90.0,),  # a long save
    ],
)
def test_what_is_no_idle_window(use):
    assert not watched(use, 2000)[0]


def test_a_gap_without_samples_begins_anew():
    _, watch = watched(lambda time: (0.0,), 200, start=200.0)
    lines, _ = watched(lambda time: (0.0,), 200, watch, start=700.0)
    assert not lines
    assert not watched(lambda time: (0.0,), 2000, every=100.0)[0], "each sample begins anew"


def test_all_that_holds_now():
    watch = Watch(0.0)
    watch.line(10, math.nan)
    for time in range(200, 700, 5):
        watch.gpus(time, [(0, 0.0), (1, 1.0)])
    assert [text.split(" is ")[0].split(" has ")[0] for text in watch.active] == ["the loss", "GPU 0", "GPU 1"]
