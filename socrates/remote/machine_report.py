"""Asking a machine how it stands: its program is run there, and its one line of JSON is read here with distrust.

Covers: an answer that is too long, cut off, of another version or not of the report's form is refused; no text in it
holds control characters, no number is NaN or infinite. Does not cover: whether what is reported is true.
"""

from __future__ import annotations

import json
import shlex

from socrates.errors import SocratesError, plain
from socrates.remote.instance import REMOTE_ROOT, Instance, Unreachable
from socrates.telemetry.machine_report import SCHEMA, MachineReport
from socrates.telemetry.reading import read_as

_PATIENCE = 120.0  # seconds
_EVIDENCE_PATIENCE = 3600.0  # some GB are read there
_LONGEST = 4 * 2**20  # bytes of an answer
_NOT_SET_UP = 97  # exit status of the command below
_ASK = """
cd {root} 2>/dev/null && [ -f socrates/machine/status.py ] || exit {not_set_up}
for python in venv/bin/python python3; do
  "$python" -c 'import psutil, pydantic, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
  "$python" -B scripts/lib/run.py machine.status {arguments} | head -c {longest}
  exit "${{PIPESTATUS[0]}}"
done
exit {not_set_up}
"""


class NotSetUp(SocratesError):
    """The machine has no code, or no Python that can run it."""


class OtherVersion(SocratesError):
    """The machine's code is another version than this computer's."""


def ask_machine(instance: Instance, run: str = "", log: str = "") -> MachineReport:
    """How a machine stands; with the evidence of a run, and its text log, where they are named.

    Raises:
        Unreachable: no connection, or it was lost.
        NotSetUp, OtherVersion: the remedy is in the message.
        SocratesError: there is no such instance, or what it answered cannot be used.
    """
    arguments = f"{shlex.quote(run)} {shlex.quote(log)}" if run else ""
    command = _ASK.format(root=REMOTE_ROOT, not_set_up=_NOT_SET_UP, arguments=arguments, longest=_LONGEST)
    done = instance.run(command, silence=_EVIDENCE_PATIENCE if run else _PATIENCE, accept=(0, _NOT_SET_UP))
    if done.returncode == _NOT_SET_UP:
        where = f"no code or no environment of this version in ~/{REMOTE_ROOT}"
        raise NotSetUp(f"instance {instance.id} is not set up: {where}\nSet it up: ./run_remote_setup.sh {instance.id}")
    return read_report(done.stdout, instance.id)


def read_report(answer: bytes, instance: str) -> MachineReport:
    """The report of an answer: its last line; some shells greet.

    Raises:
        OtherVersion: its schema is not this program's.
        Unreachable: it is cut off.
        SocratesError: it is no report.
    """
    line = answer.rstrip().rpartition(b"\n")[2] if len(answer) < _LONGEST else b""
    try:
        value = json.loads(line, parse_constant=lambda name: None)  # NaN and infinity are unknown
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unreachable(f"instance {instance}: its answer is cut off ({len(answer)} bytes)")
    if value.get("schema") != SCHEMA:
        raise OtherVersion(
            f"instance {instance}: the code there is another version than here\n"
            f"When no training runs there, upload it again: tnr scp {instance} scripts/ ~/{REMOTE_ROOT}/scripts/"
        )
    try:
        return read_as(MachineReport, value)
    except (TypeError, ValueError) as error:
        raise SocratesError(f"instance {instance}: its answer is no report: {plain(str(error))}") from None
