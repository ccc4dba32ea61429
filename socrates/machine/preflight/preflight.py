"""Preflight: all checks of a machine and a run, in the order in which a person would put things right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, PASS, Check
from socrates.machine.preflight.cost import check_cost, check_memory
from socrates.machine.preflight.data import inspect_data
from socrates.machine.preflight.disk import check_disk, check_free_disk
from socrates.machine.preflight.gpus import check_gpus, find_gpus, uses_cpus
from socrates.machine.preflight.model import check_hub, model_state
from socrates.model.kernels import refused_settings


def run_checks(config: RunConfig | None, deepspeed: Mapping[str, Any] | None = None) -> list[Check]:
    """Every check but those of the software, in the current folder, which is the project's.

    Args:
        config: the run; None checks the machine alone.
        deepspeed: what its DeepSpeed file says.

    Raises:
        SocratesError: metadata.json is malformed.
    """
    gpus, why_none = find_gpus()
    checks = list(check_gpus(gpus, why_none, config))
    if config is None:
        return [*checks, check_free_disk()]
    model = model_state(config)
    data_checks, data = inspect_data(config)
    checks += [_check_settings(config), *check_hub(config, model), *data_checks, *check_disk(config, model, data)]
    used = gpus[: config.training.num_processes]
    if used:
        check, layers = check_memory(config, deepspeed, model.shape, used)
        checks += [check, check_cost(config, model.shape, data, used, layers)]
    return checks


def _check_settings(config: RunConfig) -> Check:
    """What the config asks for by name is there."""
    problems = [problem.partition("; ") for problem in refused_settings(config, not uses_cpus())]
    if not problems:
        return Check("settings", PASS, "what the config asks for by name is installed")
    text, remedy = (" | ".join(problem[part] for problem in problems) for part in (0, 2))
    return Check("settings", FAIL, text, remedy)
