"""Two "hosts" on one machine for tests: the second is a network namespace with its own sshd and its own project folder.

Both have the project's folder under the same path; the second has another one mounted there, so that they share no
output, data or model. Needs root, iproute2 and sshd.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from processes import PATIENCE, ROOT, environment

NEEDS_ROOT = os.geteuid() != 0 or not shutil.which("ip")
WHY = "makes network namespaces: needs root and iproute2"


class TwoHosts:
    """Host one is this machine, host two a namespace; ``folder`` is the project's folder on both.

    Args:
        base: an empty folder.
        project: what both have in their project's folder.
    """

    def __init__(self, base: Path, project: Path) -> None:
        self.base, self.folder, self.second = base, base / "home" / "socrates-training", base / "second"
        for place in (self.folder, self.second):
            shutil.copytree(project, place)
            for name in ("scripts", "socrates"):
                (place / name).symlink_to(ROOT / name)
            (place / "venv").symlink_to(sys.prefix)
            shutil.copy(ROOT / "requirements_full_training.txt", place)
            (place / "hosts").write_text("# made for a test\none slots=1\ntwo slots=1\n")
        number = random.randrange(2**14)
        self._name = f"two-{os.getpid()}-{number}"
        near, far = f"va{number}", f"vb{number}"
        # A network of two addresses, of those that are set aside for measuring (RFC 2544).
        self.addresses = tuple(f"198.18.{number // 64}.{number % 64 * 4 + n}" for n in (1, 2))
        for line in (
            f"netns add {self._name}",
            f"link add {near} type veth peer name {far} netns {self._name}",
            f"address add {self.addresses[0]}/30 dev {near}",
            f"link set {near} up",
            f"-n {self._name} address add {self.addresses[1]}/30 dev {far}",
            f"-n {self._name} link set {far} up",
            f"-n {self._name} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        (base / "environment").write_text("PYTHONDONTWRITEBYTECODE=1\n")
        self.start_sshd()
        self._write_ssh()

    def start_sshd(self) -> None:
        """Host two comes up."""
        script = 'mount --bind "$1" "$2"; source "$3"; SSHD_ADDRESS=$4 start_sshd "$5" 22022'
        arguments = (self.second, self.folder, ROOT / "tests" / "sshd.bash", self.addresses[1], self.base)
        command = ["ip", "netns", "exec", self._name, "bash", "-ec", script, "bash", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def _write_ssh(self) -> None:
        config = self.base / "ssh_config"
        config.write_text(
            f"Host one\n HostName {self.addresses[0]}\nHost two\n HostName {self.addresses[1]}\n Port 22022\n"
            f'Host *\n IdentityFile "{self.base}/user_key"\n StrictHostKeyChecking accept-new\n'
            f' UserKnownHostsFile "{self.base}/known_hosts"\n'
        )
        program = self.base / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{config}" "$@"\n')
        program.chmod(0o755)

    def environment(self, **extra: str) -> dict[str, str]:
        """As on host one; `ssh` there knows host two."""
        base = environment(**extra)
        return {**base, "HOME": str(self.base / "home"), "PATH": f"{self.base / 'bin'}:{base['PATH']}"}

    def run(self, script: str, *arguments: str, timeout: float = PATIENCE, stdin: str = "", **extra: str):
        """Run scripts/SCRIPT on host one; returns the CompletedProcess."""
        return subprocess.run(
            [sys.executable, f"scripts/{script}", *arguments],
            cwd=self.folder,
            env=self.environment(**extra),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def processes_of_second(self) -> list[int]:
        """What runs on host two, without its sshd's listener."""
        listener = int((self.base / "sshd.pid").read_text())
        found = subprocess.run(["ip", "netns", "pids", self._name], capture_output=True, text=True, check=True).stdout
        return [int(pid) for pid in found.split() if int(pid) != listener]

    def kill_second(self) -> None:
        """Host two loses all that runs on it; its sshd can be reached again."""
        for pid in self.processes_of_second():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End what runs on host two, and host two."""
        self.kill_second()
        with suppress(ProcessLookupError):
            os.kill(int((self.base / "sshd.pid").read_text()), signal.SIGKILL)
        time.sleep(0.1)
        subprocess.run(["ip", "netns", "delete", self._name], check=False)
