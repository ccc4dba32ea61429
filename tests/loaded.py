"""A process that has imported the model libraries, and forks: what it starts imports nothing anew.

The imports take several times what a tiny model takes. Each script runs in a process of its own, to its own end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

LIBRARIES = (
    *("numpy", "torch", "deepspeed", "peft", "transformers.trainer", "transformers.models.qwen2.modeling_qwen2"),
    *(f"socrates.{name}" for name in ("training.train", "evaluation.evaluate", "predict.predict", "report.page")),
)


class Loaded:
    """A Python program started with the libraries loaded; as much of a Popen as tests use.

    Args:
        arguments: the program's path, and its arguments.
        cwd, env: of its process. What the libraries read when they are imported is of the first one's env.
        stdout, stderr: open files.
    """

    def __init__(self, arguments: list[str], *, cwd: Path, env: dict[str, str], stdout, stderr):
        self.args, self.returncode = arguments, None
        read, write = os.pipe()
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
        socket.send_fds(_server(), [request], [stdout.fileno(), stderr.fileno(), write])
        os.close(write)
        self._told = os.fdopen(read)
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """The exit status, a signal as a negative number, once it has ended."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def kill(self) -> None:
        """Signal 9, which nothing outlives."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    from processes import ROOT, environment

    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(ROOT)]
    subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=its, stdout=subprocess.DEVNULL)
    its.close()
    return ours


def _next_program() -> dict:
    """Fork for each request until the tests' process has ended; returns in the process that becomes the program."""
    channel = socket.socket(fileno=0)
    while True:
        request, passed, *_ = socket.recv_fds(channel, 65536, 3)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in passed:
            os.close(descriptor)
    *outputs, told = passed
    if program := os.fork():
        os.write(told, f"{program}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        os.write(told, f"{status}\n".encode())
        os._exit(0)
    os.close(told)
    channel.detach()
    for target, source in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
        os.dup2(source, target)
        os.close(source)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", 1, closefd=False)  # noqa: SIM115 - as if new
    return json.loads(request)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    asked = _next_program()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = asked["arguments"]
    sys.path[:2] = [str(Path(sys.argv[0]).parent)]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as leaving:
        status = leaving.code or 0
    # As Python ends, but without taking the libraries apart: that would copy all of their memory first.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)
