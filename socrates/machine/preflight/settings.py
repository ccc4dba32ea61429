"""Settings that the training would refuse on this machine: kernels and a tracker that are not installed."""

from __future__ import annotations

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, PASS, Check
from socrates.model.kernels import refused_settings


def check_settings(config: RunConfig, gpu: bool) -> Check:
    """What the config asks for by name is there.

    Args:
        config: of the run.
        gpu: whether it trains on GPUs.
    """
    problems = [problem.partition("; ") for problem in refused_settings(config, gpu)]
    if not problems:
        return Check("settings", PASS, "what the config asks for by name is installed")
    text, remedy = (" | ".join(problem[part] for problem in problems) for part in (0, 2))
    return Check("settings", FAIL, text, remedy)
