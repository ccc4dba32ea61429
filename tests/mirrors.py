"""A project with an instance that is a folder beside it, for tests of what crosses the gap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from processes import PATIENCE, ROOT, environment

from socrates.checkpoint import GUIDE_FILES, write_manifest
from socrates.remote.fetch import fetch_checkpoint
from socrates.remote.instance import Instance

STAND_IN = Path(__file__).parent / "fixtures" / "folder_tnr.bash"


@dataclass
class Project:
    """A project's folder with scripts/tnr, and what its instance holds."""

    root: Path

    @property
    def instance(self) -> Instance:
        return Instance(self.root, "0")

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def there(self) -> Path:
        return self.root / "instance" / "home" / "socrates-training" / "models"

    def save(self, step: int, run: str = "run", *, max_steps: int = 50, size: int = 200, manifest: bool = True) -> Path:
        """What a training leaves on the instance, with new bytes each time."""
        folder = self.there / run / f"checkpoint-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / f"global_step{step}").mkdir(parents=True)
        for name in (*GUIDE_FILES, "training_config.json", f"global_step{step}/shard.pt"):
            (folder / name).write_bytes(os.urandom(size))
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": max_steps}))
        if manifest:
            write_manifest(folder, num_processes=2)
        return folder

    def fault(self, when: str, bash: str | None) -> None:
        """Bash that the stand-in runs `before_scp` or `after_scp`; None takes it away."""
        (self.root / when).unlink(missing_ok=True)
        if bash:
            (self.root / when).write_text(bash)

    def fetch(self, step: int, run: str = "run", *, say=lambda text: None, light: bool = False) -> bool:
        source, target = f"socrates-training/models/{run}/checkpoint-{step}", self.models / run / f"checkpoint-{step}"
        return fetch_checkpoint(self.instance, source, target, starting=lambda: None, say=say, light=light, wait=False)

    def asked(self) -> list[str]:
        """The names of the files that were asked for since the last call."""
        path = self.root / "asked"
        names = [Path(line).name for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def tries(self) -> int:
        """How often an instance that is `unreachable` was turned to."""
        path = self.root / "tries"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def start(self, *arguments: object, script: str = "monitor_checkpoints.py", **extra: str) -> subprocess.Popen:
        """Start an entry point in this project; stdout and stderr in one pipe."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)],
            cwd=self.root,
            env=environment(SOCRATES_ROOT=str(self.root), **extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: object, script: str = "monitor_checkpoints.py", **extra: str) -> tuple[int, str]:
        """Run an entry point to its end; exit status and all it printed."""
        with self.start(*arguments, script=script, **extra) as process:
            output = process.communicate(timeout=PATIENCE)[0]
        assert "Traceback" not in output, output
        return process.returncode, output


def make_project(folder: Path) -> Project:
    root = folder / "a place"
    (root / "scripts").mkdir(parents=True)
    (root / "instance" / "home").mkdir(parents=True)
    shutil.copy(STAND_IN, root / "scripts" / "tnr")
    return Project(root)


def flip_a_bit(path: Path) -> None:
    """Keeps size and time: rsync takes the file for the same."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files with the same bytes, and no link."""

    def content(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert not any(p.is_symlink() for p in one.rglob("*"))
    return content(one) == content(other)
