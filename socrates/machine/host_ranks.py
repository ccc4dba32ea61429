"""The ranks of one run on several machines: the first one starts its own and, over ssh, those of the others.

Each machine runs DeepSpeed's launcher of one node (`deepspeed.launcher.launch`); no program but ssh is needed. What the
ranks of the others print comes into the one log behind `[host]`. Settings and HF_TOKEN go over standard input.
Covers: the end of any machine's ranks, of this process or of a connection ends the ranks on every machine: asked with
SIGTERM first, so that they can save, then killed. No rank is left that holds a GPU.
Does not cover: whether it is started again; see `supervisor.py`.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from socrates.errors import EXIT_NO, SocratesError
from socrates.machine.gpus import gpu_numbers
from socrates.machine.hosts import Host, enter_folder, network_settings, ssh_command
from socrates.machine.machine_env import MACHINE_ENV, read_machine_env
from socrates.machine.process_tree import adopt_orphans, bury_adopted, end_descendants, wait_until
from socrates.machine.run_state import RUN_FOLDER

# Settings of the first machine that hold for the ranks of all; each machine's own machine.env has the last word.
_SHARED = ("NCCL_", "GLOO_", "HF_", "OMP_", "DS_", "DEEPSPEED_", "TORCH_", "PYTORCH_", "TOKENIZERS_")
_BEAT, _SILENCE = 10.0, 120.0  # seconds: a word from the first machine; without one for so long it is gone
_FAILURE_GRACE = 15.0  # seconds: ranks whose fellows have died wait for them, and save nothing
_LOST = 255  # ssh's own status
_RETURN = 600.0  # seconds for a host that cannot be reached to come back
_WORD_EVERY = 60.0  # seconds
_PR_SET_PDEATHSIG = 1
_STOP = b"stop\n"


class LocalRanks:
    """DeepSpeed's launcher on this machine, and its ranks."""

    def __init__(
        self, order: Mapping[str, Any], environment: Mapping[str, str], output: int | None, keep: Sequence[int] = ()
    ) -> None:
        """Start them.

        Args:
            order: what `make_order` gives.
            environment: of the ranks.
            output: where they print (subprocess.PIPE, or None: as this process).
            keep: descriptors that the launcher keeps open for as long as it lives, a lock's.
        """
        libc = ctypes.CDLL(None)

        def end_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        own = network_settings(order["meeting"], environment)
        self.process = subprocess.Popen(
            _launcher(order, environment),
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            preexec_fn=end_with_parent,
            pass_fds=keep,
        )
        self._asked: float | None = None

    def poll(self) -> int | None:
        """The launcher's exit status, None while it runs; a signal's as a shell tells it."""
        status = self.process.poll()
        return status if status is None or status >= 0 else 128 - status

    def ask_to_end(self) -> None:
        """SIGTERM to every rank, once; not to the launcher, which would give them half a minute and kill them."""
        if self._asked is None:
            self._asked = time.monotonic()
            with suppress(psutil.Error):
                for rank in psutil.Process(self.process.pid).children():
                    with suppress(psutil.Error):
                        rank.terminate()

    def is_overdue(self, grace: float) -> bool:
        """Whether they were asked longer ago than ``grace`` seconds."""
        return self._asked is not None and time.monotonic() - self._asked > grace


def make_order(hosts: Sequence[Host], number: int, meeting: str, port: int, command: Sequence[str]) -> dict[str, Any]:
    """What a machine is told: which ranks are its own, where rank 0 is met, and the script with its arguments."""
    return {
        "hosts": [[host.name, host.slots] for host in hosts],
        "number": number,
        "meeting": meeting,
        "port": port,
        "command": list(command),
    }


def shared_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the ranks on other machines get of this environment; HF_TOKEN is among it."""
    return {name: value for name, value in environment.items() if name.startswith(_SHARED)}


def lead(hosts: Sequence[Host], meeting: str, port: int, grace: float, command: Sequence[str]) -> int:
    """Run the ranks of all machines to their end; to be called on the first one.

    Args:
        hosts: the hostfile's.
        meeting: the address of this machine, for the others.
        port: on which rank 0 is met.
        grace: seconds that ranks have to save when the run is asked to stop.
        command: the script and its arguments.

    Returns:
        0 when all have ended well; else the status of the machine that failed first.

    Raises:
        SocratesError: a machine cannot be reached, for ten minutes; no rank was started.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.append(number))
    _await_hosts(hosts[1:], stopping)
    if stopping:
        return EXIT_NO
    environment = dict(os.environ)
    followers = []
    try:
        for number, host in enumerate(hosts[1:], 1):
            order = make_order(hosts, number, meeting, port, command)
            order |= {"environment": shared_settings(environment), "grace": grace}
            followers.append(_Follower(host, order))
        own = LocalRanks(make_order(hosts, 0, meeting, port, command), environment, None)
        return _watch(own, followers, grace, stopping)
    finally:
        for follower in followers:
            follower.end()


def _await_hosts(hosts: Sequence[Host], stopping: Sequence[int], patience: float = _RETURN, pause: float = 5.0) -> None:
    """Wait until every machine can be reached: one that was lost a minute ago may be starting again."""
    begun = time.monotonic()
    told = -_WORD_EVERY
    missing = list(hosts)
    while (missing := [host for host in missing if not _is_reached(host)]) and not stopping:
        names, waited = ", ".join(host.name for host in missing), time.monotonic() - begun
        if waited > patience:
            raise SocratesError(
                f"cannot be reached for {waited / 60:.0f} minutes: {names}; this must work here without a question: "
                f"ssh {missing[0].name} true"
            )
        if waited - told >= _WORD_EVERY:
            told = waited
            _say(f"cannot be reached: {names}; waiting, {waited / 60:.0f} of {patience / 60:.0f} minutes so far")
        time.sleep(pause)


def _is_reached(host: Host) -> bool:
    try:
        done = subprocess.run(
            ssh_command(host, "true"), stdin=subprocess.DEVNULL, capture_output=True, timeout=_WORD_EVERY
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _watch(own: LocalRanks, followers: Sequence[_Follower], grace: float, stopping: Sequence[int]) -> int:
    failed: int | None = None
    beaten = 0.0
    parties: list[LocalRanks | _Follower] = [own, *followers]
    while any(party.poll() is None for party in parties):
        if time.monotonic() - beaten > _BEAT:
            beaten = time.monotonic()
            for follower in followers:
                follower.send(b"\n")
        ended = [(party, status) for party in parties if (status := party.poll())]
        if ended and failed is None:
            party, failed = ended[0]
            name = party.host.name if isinstance(party, _Follower) else "this host"
            if not stopping:
                how = "cannot be reached any more" if failed == _LOST else f"has ended with status {failed}"
                _say(f"{name} {how}: the ranks of all other hosts are ended")
        if failed is not None or stopping:
            for party in parties:
                party.ask_to_end()
            if own.is_overdue(grace if stopping else _FAILURE_GRACE):
                _kill_tree(own.process.pid)
                for follower in followers:
                    follower.hang_up()
        time.sleep(0.1)
    return EXIT_NO if failed == _LOST else failed or 0


class _Follower:
    """The connection to another machine of the run."""

    def __init__(self, host: Host, order: Mapping[str, Any]) -> None:
        self.host = host
        line = f"{enter_folder(Path.cwd(), Path.home())} && exec venv/bin/python scripts/hosts.py follow"
        # A stop reaches every process of the run at once: the connection must stand until the ranks have ended. ssh
        # goes on ignoring what it was told to ignore.
        self._process = subprocess.Popen(
            ssh_command(host, line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_ignore_stops,
        )
        self._asked = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(json.dumps(order).encode() + b"\n")

    def poll(self) -> int | None:
        status = self._process.poll()
        return status if status is None or status >= 0 else _LOST

    def send(self, words: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended
            self._process.stdin.write(words)
            self._process.stdin.flush()

    def ask_to_end(self) -> None:
        if not self._asked:
            self._asked = True
            self.send(_STOP)

    def hang_up(self) -> None:
        """From the end of its input the other side ends its ranks, if it is not at that already."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def end(self) -> None:
        self.hang_up()
        if not wait_until(lambda: self._process.poll() is not None, _FAILURE_GRACE):
            self._process.kill()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(OSError):  # the log's disk is full; unread, the ranks there would wait for ever
                _print(b"[" + self.host.name.encode() + b"] " + line.rstrip(b"\r\n") + b"\n")


def follow() -> int:
    """Run this machine's ranks as the first machine tells on standard input; returns the launcher's status.

    Raises:
        SocratesError: no order, a bad machine.env, or ranks of an earlier attempt that do not end.
    """
    order = _read_order()
    environment = {**os.environ, **order["environment"], **read_machine_env(MACHINE_ENV)}
    lock = _wait_for_predecessor()
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: stopping.append(number))
    adopt_orphans()
    ranks = LocalRanks(order, environment, subprocess.PIPE, keep=(lock.fileno(),))
    printer = threading.Thread(target=_pass_on, args=(ranks.process.stdout,), daemon=True)
    printer.start()
    line = _Line()
    grace = order["grace"]
    while ranks.poll() is None and not ranks.is_overdue(grace):
        word = line.listen(0.2)
        if word == "failed":
            grace = _FAILURE_GRACE
        if word or stopping:
            ranks.ask_to_end()
    end_descendants(2.0)
    printer.join(5)
    status = ranks.poll()
    bury_adopted()
    lock.close()
    return EXIT_NO if status in (None, _LOST) else status or 0


class _Line:
    """What comes from the first machine after the order."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._open = True

    def listen(self, seconds: float) -> str | None:
        """Whether the ranks are to end: "stop" when asked for, "failed" when the first machine is gone."""
        if not self._open:
            time.sleep(seconds)
            return "failed"
        if self._selector.select(seconds):
            words = os.read(0, 4096)
            self._heard = time.monotonic()
            if not words:
                self._open = False
                return "failed"
            if b"s" in words:
                return "stop"
        if time.monotonic() - self._heard > _SILENCE:
            self._open = False
        return None


def _read_order() -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n"):  # byte by byte: what follows is for the selector
        byte = os.read(0, 1)
        if not byte:
            raise SocratesError("scripts/hosts.py follow is called by the first machine of a run, not by hand")
        text += byte
    try:
        return json.loads(text)
    except ValueError as error:
        raise SocratesError("the order of the first machine cannot be read; is its code the same as here?") from error


def _wait_for_predecessor() -> IO[str]:
    """A lock for as long as this process or its launcher lives.

    Ranks of an attempt whose first machine is gone need time to end.
    """
    try:
        RUN_FOLDER.mkdir(mode=0o700, exist_ok=True)
        lock = (RUN_FOLDER / f"host-{platform.node()}.lock").open("a+")
    except OSError as error:
        raise SocratesError(f"{RUN_FOLDER}: cannot write there: {error.strerror or error}") from error

    def taken() -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    if not wait_until(taken, _SILENCE + 60, 0.5):
        raise SocratesError("ranks of an earlier run do not end on this machine; look at them with nvidia-smi and ps")
    return lock


def _launcher(order: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    numbers = {name: list(range(slots)) for name, slots in order["hosts"]}
    name, slots = order["hosts"][order["number"]]
    numbers[name] = gpu_numbers(environment, slots) or numbers[name]
    world = base64.urlsafe_b64encode(json.dumps(numbers).encode()).decode()
    return [
        *(sys.executable, "-u", "-m", "deepspeed.launcher.launch", f"--world_info={world}"),
        *(f"--node_rank={order['number']}", f"--master_addr={order['meeting']}", f"--master_port={order['port']}"),
        *order["command"],
    ]


def _pass_on(source: IO[bytes]) -> None:
    """From the ranks to the first machine; when that is gone the ranks must still be able to print."""
    write: Callable[[bytes], None] | None = _print
    for line in source:
        try:
            if write:
                write(line)
        except OSError:
            write = None


def _print(line: bytes) -> None:
    while line:
        line = line[os.write(1, line) :]


def _say(text: str) -> None:
    with suppress(OSError):  # the log's disk is full
        _print(f"=== {text}\n".encode())


def _ignore_stops() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _kill_tree(pid: int) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.Error):
                each.kill()
