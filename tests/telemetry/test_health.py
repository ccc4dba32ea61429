"""What looks like a bad run: on simulated losses, healthy and diverging, and on samples of GPUs."""

import math
import random

import pytest

from socrates.telemetry.health import (
    IDLE_GRACE,
    IDLE_WINDOW,
    RISE,
    GpuWatch,
    LossWatch,
    Watch,
    spread_of_neighbours,
)

LINES = 1130  # a full run's: 11,300 steps, a line every 10
NOISE = {
    "normal": lambda rng: rng.gauss(0, 1),
    "heavy tails": lambda rng: rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2) / 3) / 1.7,  # Student's t, 3
    "skewed": lambda rng: (rng.lognormvariate(0, 0.6) - math.exp(0.18)) / 0.8,
}


def losses(rng, noise, lines=LINES, relative=0.015, start=1.2):
    """A decreasing loss (all of it early, some later) with noise of so large a share of its end."""
    draw = NOISE[noise]
    return [
        1.35 + start * math.exp(-at / 40) + 0.15 * math.exp(-at / 400) + 1.35 * relative * draw(rng)
        for at in range(lines)
    ]


def said(values, grad_norm=None):
    watch, lines = LossWatch(), []
    for at, loss in enumerate(values, 1):
        lines += [(at, line) for line in watch.add(10 * at, loss, grad_norm)]
    return lines, watch


@pytest.mark.parametrize("noise", NOISE)
def test_healthy_runs_are_not_warned_of(noise):
    """In 40 full runs, of which every second has reached its end's loss from the start (the hardest), at most one."""
    rng = random.Random(7)
    alarms = sum(bool(said(losses(rng, noise, start=1.2 * (run % 2)))[0]) for run in range(40))
    assert alarms <= 1


@pytest.mark.parametrize("slope, within", [(0.2, 6), (0.03, 12), (0.004, 60)])
def test_a_diverging_loss_is_warned_of_once(slope, within):
    rng = random.Random(3)
    values = losses(rng, "normal", 400)
    values[300:] = [value + slope * (at + 1) for at, value in enumerate(values[300:])]
    lines, watch = said(values)
    ((at, line),) = lines
    assert 300 < at <= 300 + within
    assert line.startswith("WARNING: the loss has risen to ") and f"since step {10 * at:,}" in line
    assert list(watch.active.values()) == [line.removeprefix("WARNING: ")]


def test_a_jump_that_stays_is_warned_of_once_and_one_that_heals_is_over():
    rng = random.Random(5)
    healthy, jump = losses(rng, "normal", 300), losses(rng, "normal", 400)
    jumped = healthy + [value + 0.5 for value in jump]
    assert len(said(jumped)[0]) == 1, "what it has come to does not become usual"
    healed, watch = said(jumped + jump[300:320])
    assert [line.split(" at ")[0] for _, line in healed][1:] == ["Over"] and not watch.active


def test_single_spikes_and_the_first_lines_are_not_warned_of():
    rng = random.Random(1)
    values = losses(rng, "normal", 300)
    for at in (50, 120, 121, 200):
        values[at] *= 3
    assert not said(values)[0]
    assert not said([1.0, 1.0, 5.0, 9.0, 12.0, 20.0] * 4)[0]
    assert not said([1.0] * 60 + [1.005] * 60)[0], "a loss without spread may move a little"


def test_a_loss_or_gradient_norm_that_is_no_number():
    watch = LossWatch()
    assert not watch.add(10, 1.0, 0.5)
    (line,) = watch.add(20, math.nan, math.inf)
    assert line.startswith("WARNING: the loss and the gradient norm are no numbers, since step 20: stop it and go on ")
    assert watch.add(30, math.inf) == [] and watch.active, "said once"
    assert watch.add(40, 1.0, 0.5) == ["Over at step 40: the loss is a number again"] and not watch.active
    assert watch.add(50, 1.0, math.nan)


def test_the_spread_is_a_standard_deviation_whatever_the_trend():
    rng = random.Random(2)
    noise = [rng.gauss(0, 0.1) for _ in range(2000)]
    assert spread_of_neighbours(noise) == pytest.approx(0.1, rel=0.1)
    assert spread_of_neighbours([value + 0.05 * at for at, value in enumerate(noise)]) == pytest.approx(0.1, rel=0.1)
    assert spread_of_neighbours([1.0]) == 0.0 and RISE > 3


# GPUs.


def watched(use, seconds, watch=None, start=0.0, every=5.0):
    """What is said of samples; ``use`` gives each GPU's at a time."""
    watch = watch or GpuWatch(0.0)
    lines, time = [], start
    while time < start + seconds:
        lines += [(time, line) for line in watch.add(time, enumerate(use(time)))]
        time += every
    return lines, watch


def test_one_idle_gpu_among_busy_ones_is_named_after_a_whole_window():
    lines, watch = watched(lambda time: (99.0, 0.0 if time > 200 else 99.0, 98.0), 900)
    ((time, line),) = lines
    assert 200 + IDLE_WINDOW <= time <= 200 + IDLE_WINDOW + 10
    assert line.startswith("WARNING: GPU 1 has been idle (below 5%) for 5 minutes: ")
    assert list(watch.active) == [1]
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
    assert not watched(lambda time: (0.0,), 2000, every=100.0)[0], "too few samples"


def test_all_that_holds_now():
    watch = Watch(0.0)
    watch.line(10, math.nan)
    for time in range(200, 700, 5):
        watch.gpus(time, [(0, 0.0), (1, 1.0)])
    assert [text.split(" is ")[0].split(" has ")[0] for text in watch.active] == ["the loss", "GPU 0", "GPU 1"]
