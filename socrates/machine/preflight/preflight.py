"""Preflight: all checks of a machine and a run, in the order in which a person would put things right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, PASS, Check
from socrates.machine.preflight.costs import check_costs, free_disk
from socrates.machine.preflight.gpus import inspect_gpus, uses_cpus
from socrates.machine.preflight.inputs import check_lengths, check_model, inspect_data, model_state
from socrates.model.kernels import refused_settings


def run_checks(config: RunConfig | None, deepspeed: Mapping[str, Any] | None = None) -> list[Check]:
    """Every check but those of the software, in the current folder, which is the project's.

    Args:
        config: the run; None checks the machine alone.
        deepspeed: what its DeepSpeed file says.
    """
    gpu_checks, gpus = inspect_gpus(config)
    if config is None:
        return [*gpu_checks, Check("disk", PASS, free_disk())]
    model, (data_checks, data) = model_state(config), inspect_data(config)
    refused = [problem.partition("; ") for problem in refused_settings(config, not uses_cpus())]
    settings = [Check("settings", FAIL, problem, remedy) for problem, _, remedy in refused]
    inputs = [*check_model(config, model), *data_checks, *check_lengths(config, model.context)]
    return [*gpu_checks, *settings, *inputs, *check_costs(config, deepspeed, model, data, gpus)]
