"""Ctrl+C while a script starts, or a Python that cannot: it ends, and never with a status that reads as an answer."""

import os
import signal
import subprocess
import sys

import pytest
from processes import PATIENCE, ROOT, wait_for

# What Python is when Ctrl+C reaches it while it loads its site module: it leaves with status 1, not by the signal.
INTERRUPTED_PYTHON = f"""#!{sys.executable} -S
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: os._exit(1))
open(os.environ["PROBED"], "w").close()
while True:
    time.sleep(0.05)
"""


def start(command, folder, environment):
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )


@pytest.mark.parametrize("script", ["monitor_checkpoints.sh 0 1", "evaluate_baseline.sh", "status.sh 0"])
def test_a_script_does_not_go_on_when_the_python_that_it_asks_is_interrupted(tmp_path, script):
    program = tmp_path / "venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(INTERRUPTED_PYTHON)
    program.chmod(0o755)
    (tmp_path / "config_500step_validation.json").write_text("{}")
    name, *arguments = script.split()
    environment = {"VIRTUAL_ENV": str(tmp_path / "venv"), "PROBED": str(tmp_path / "probed")}
    process = start([ROOT / "scripts" / name, *arguments], tmp_path, environment)
    try:
        wait_for((tmp_path / "probed").exists)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in (-signal.SIGINT, 2) and not said, said


@pytest.mark.parametrize("script", ["gate.py", "lib/run.py phases"])
def test_an_entry_point_that_is_interrupted_while_it_imports_ends_without_a_traceback(tmp_path, script):
    slow = tmp_path / "traceback.py"  # found before Python's own, like a slow import
    slow.write_text(f"import pathlib, time; pathlib.Path({str(tmp_path / 'importing')!r}).touch(); time.sleep(3600)")
    name, *arguments = script.split()
    process = start([sys.executable, ROOT / "scripts" / name, *arguments], tmp_path, {"PYTHONPATH": str(tmp_path)})
    wait_for((tmp_path / "importing").exists)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE)[0] == b"" and process.returncode == -signal.SIGINT


ANSWERING = {  # scripts whose 0 and 1 are answers
    "evaluate_checkpoint.sh": "models/run/checkpoint-1 base/metrics.json",
    "status.sh": "0",
    "verify_test_run.sh": "0",
    "monitor_checkpoints.sh": "0 --missing",
    "tnr": "delete 0 --yes",
}
LEAVES = "import os, sys\n'-c' in sys.orig_argv or '-I' in sys.orig_argv or os._exit({status})"
FAULTS = {
    "PYTHONSAFEPATH": {"PYTHONSAFEPATH": "1"},
    "PYTHONHOME": {"PYTHONHOME": "/nowhere"},
    "a sitecustomize that says no": {"PYTHONPATH": "1"},
    "a sitecustomize that says yes": {"PYTHONPATH": "0"},
    "a full disk under all output": {"PYTHONSAFEPATH": "1", "LINE": "{} >/dev/full 2>&1"},
    "too few files for Python": {"LINE": "ulimit -n 4; {}"},
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("script", ANSWERING)
def test_a_python_that_dies_before_it_begins_answers_nothing_and_costs_nothing(tmp_path, script, fault):
    """Least of all the machine that holds the checkpoints."""
    for name in ("models/run/checkpoint-1", "base", "evaluation_results/run/checkpoint-1", "instances/0/home"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("models/run/checkpoint-1/adapter_config.json", "models/run/checkpoint-1/adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    for name in ("scripts", "socrates", "venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "base/metrics.json").write_text("{}")
    (tmp_path / "instances.json").write_text('{"0": {"folder": "instances/0"}}')
    decision = tmp_path / "evaluation_results/run/checkpoint-1/decision.json"
    decision.write_text('{\n  "decision": "GO",\n  "n": 1\n}\n')
    environment = {"VIRTUAL_ENV": str(tmp_path / "venv"), "LINE": "{}", **FAULTS[fault]}
    if status := environment.get("PYTHONPATH"):
        (tmp_path / "sitecustomize.py").write_text(LEAVES.format(status=status))
        environment["PYTHONPATH"] = str(tmp_path)
    line = environment["LINE"].format(f"./scripts/{script} {ANSWERING[script]}")
    process = start(["bash", "-c", line], tmp_path, environment)
    said = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 2, said
    assert (tmp_path / "instances/0").is_dir() and decision.exists()
