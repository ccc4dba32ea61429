"""The machines of a run: DeepSpeed's hostfile, and how one of them reaches the others.

Covers: lines `name slots=N`, `#` comments; the first line is the machine that the run is started on (rank 0, log and
checkpoints are there). Whatever else DeepSpeed would pass over or take for another number is an error with its line.
Does not cover: ports and keys, which are ssh's own (`~/.ssh/config`).
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_text

_LINE = re.compile(r"(\S+)\s+slots\s*=\s*(\d+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
# A link that is dead ends ssh after a minute, and with it the run; nobody is there to type a password.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
_SSH = ("ssh", "-T", *(f"-o{option}" for option in _OPTIONS))


@dataclass(frozen=True)
class Host:
    """One machine, as the hostfile has it.

    Attributes:
        name: as ssh knows it; `user@` may stand before it.
        slots: ranks, and GPUs.
    """

    name: str
    slots: int


def read_hostfile(path: Path | str, config: RunConfig | None = None) -> tuple[Host, ...]:
    """The machines of a run, the first one first.

    Args:
        path: the hostfile.
        config: of the run; its num_processes must be the sum of the slots.

    Raises:
        SocratesError: names the file and every line that cannot be taken.
    """
    hosts: dict[str, int] = {}
    lines: dict[str, int] = {}
    problems = []
    for number, text in enumerate(read_text(path, "hostfile").splitlines(), 1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if not match:
            problems.append(f"line {number}: {line!r} is not of the form: name slots=4")
        elif not _NAME.fullmatch(match[1]):
            problems.append(f"line {number}: {match[1]!r} is no host name that ssh would take")
        elif match[1] in hosts:
            problems.append(f"line {number}: {match[1]} stands in line {lines[match[1]]} already; add up its slots")
        elif not int(match[2]):
            problems.append(f"line {number}: {match[1]} has no slots; leave the line out")
        else:
            hosts[match[1]], lines[match[1]] = int(match[2]), number
    if problems:
        raise SocratesError("\n  ".join([f"{path}: wants lines NAME slots=N", *problems]))
    if not hosts:
        raise SocratesError(f"{path}: names no host; it wants lines NAME slots=N, this machine's first")
    total = sum(hosts.values())
    if config is not None and total != config.training.num_processes:
        counted = " + ".join(f"{slots} (line {lines[name]})" for name, slots in hosts.items())
        raise SocratesError(
            f'{path}: the slots are {counted} = {total}, but the config has "training.num_processes": '
            f"{config.training.num_processes}; change one of them"
        )
    return tuple(Host(name, slots) for name, slots in hosts.items())


def ssh_command(host: Host, line: str) -> list[str]:
    """The command that has a shell of another machine run a line; never a secret in it."""
    return [*_SSH, host.name, line]


def enter_folder(folder: Path, home: Path) -> str:
    """The beginning of such a line: into the project's folder, below whatever the home folder is there."""
    if folder.is_relative_to(home):
        return f"cd ~/{shlex.quote(folder.relative_to(home).as_posix())}"
    return f"cd {shlex.quote(folder.as_posix())}"


def meeting_address(path: Path | str, hosts: tuple[Host, ...]) -> str:
    """The address of this machine at which the ranks of all others meet rank 0.

    Raises:
        SocratesError: the hostfile's first line is not this machine, or its name means the loopback here.
    """
    first = hosts[0]
    remedy = (
        "the first line must be the machine on which the run is started, by a name or address of its own that the "
        "others reach (ip -brief address shows them)"
    )
    name = _host_name(first)
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SocratesError(f"{path}: {first.name}: no such host ({error.strerror}); {remedy}") from error
    if len(hosts) > 1 and (address.startswith("127.") or address == "::1"):
        raise SocratesError(f"{path}: {first.name} means {address} here, which no other machine can reach; {remedy}")
    if _interface_of(address) is None:
        raise SocratesError(f"{path}: {first.name} is {address}, which is no address of this machine; {remedy}")
    return address


def network_settings(meeting: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Which network interface the ranks of this machine use, unless its environment says so: the way to rank 0.

    Without it gloo takes the address of the machine's own name, which is often the loopback.
    """
    with socket.socket(socket.AF_INET6 if ":" in meeting else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((meeting, 9))  # sends nothing
            interface = _interface_of(probe.getsockname()[0])
        except OSError:
            interface = None
    # On rank 0's machine the way to its own address is the loopback, with that address on both ends.
    found = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface and f"={interface}"}
    return {name: value for name, value in found.items() if value and name not in environment}


def _interface_of(address: str) -> str | None:
    for interface, addresses in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in addresses):
            return interface
    return None


def _host_name(host: Host) -> str:
    """What ssh's configuration means by a name."""
    plain = host.name.rpartition("@")[2]
    try:
        text = subprocess.run(["ssh", "-G", plain], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return plain
    return next((line.split()[1] for line in text.splitlines() if line.startswith("hostname ")), plain)
