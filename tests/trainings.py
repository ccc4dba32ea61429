"""A tiny run of nine steps, of which an epoch has five, and what its tests compare; see `processes`."""

import json
import shutil

from processes import ROOT, logged, train, training_folder

from socrates.files import write_json

STEPS, SAVE_STEPS, WARMUP_RATIO, PEAK = 9, 3, 0.3, 2e-3
WITNESS = ROOT / "tests" / "training_witness.py"
RUN, LAST = "models/run", "models/run/checkpoint-9"
PRICE = 3600.0  # US dollars an hour: a second costs a dollar


def make_workplace(folder, **options):
    training = {"learning_rate": PEAK, "warmup_ratio": WARMUP_RATIO, "logging_steps": 1}
    options = {"price_per_hour": PRICE, "people": 2} | options
    return training_folder(folder, steps=STEPS, save_steps=SAVE_STEPS, training=training, **options)


def copy_of(workplace, name):
    return shutil.copytree(workplace, workplace.with_name(f"{workplace.name}-{name}"))


def change(folder, training=(), **values):
    config = json.loads((folder / "config.json").read_text()) | values
    config["training"] |= dict(training)
    write_json(folder / "config.json", config)


def finish(folder, *more, run=train, **options):
    """Run a training to its last step; returns its output."""
    result = run(folder, *more, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not list((folder / RUN).glob(".universal-*"))
    return result.stdout


def learned(folder):
    """What each step has learned, to the last digit, as the last checkpoint tells."""
    keys = ("step", "loss", "grad_norm", "learning_rate")
    return [[entry[key] for key in keys] for entry in logged(folder, LAST) if "loss" in entry]


def assert_same_end(folder, undisturbed):
    """Every digit of the log, and the last adapter byte for byte."""
    assert learned(folder) == learned(undisturbed)
    one, other = (f / LAST / "adapter_model.safetensors" for f in (undisturbed, folder))
    assert one.read_bytes() == other.read_bytes()
