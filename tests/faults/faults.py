"""Faults between laptop and machine, at random moments, and what became of the checkpoints.

Each round: some checkpoints on the machine, a monitor on the laptop, one fault at a random moment. At no moment may a
folder named checkpoint-N be on the laptop without all its bytes, and after the fault has ended all checkpoints must
arrive without help; only a monitor that was killed is started again.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from world import RUN, World, laptop_environment

PATIENCE = 300.0  # seconds after the end of a fault


@dataclass
class Round:
    """One round's world, its dice and its monitor."""

    world: World
    rng: random.Random
    monitor: subprocess.Popen

    def some_checkpoint(self) -> tuple[str, int]:
        return self.rng.choice(self.world.saved())

    def some_file(self, folder: Path) -> Path | None:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        return self.rng.choice(files) if files else None

    def pause(self, longest: float = 1.2) -> None:
        time.sleep(self.rng.uniform(0, longest))


def monitor_killed(r: Round) -> None:
    """kill -9 of the monitor; what it had started goes on as it can."""
    r.world.kill(r.monitor)
    r.pause(0.3)
    r.monitor = r.world.start_monitor()


def monitor_interrupted(r: Round) -> None:
    """Ctrl+C."""
    os.killpg(r.monitor.pid, signal.SIGINT)
    try:
        r.monitor.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        r.world.violations.append("the monitor went on after Ctrl+C")
        r.world.kill(r.monitor)
    r.monitor = r.world.start_monitor()


def transfer_killed(r: Round) -> None:
    """kill -9 of an ssh or rsync process here."""
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline and not (processes := r.world.transfers()):
        time.sleep(0.005)
    if processes:
        with suppress(psutil.NoSuchProcess):
            r.rng.choice(processes).kill()


def connection_cut(r: Round) -> None:
    """Every connection ends; what runs on the machine goes on as it can."""
    r.world.signal_sshd(signal.SIGKILL, listener=False)


def network_frozen(r: Round) -> None:
    """Nothing goes through for a while, as when the laptop sleeps."""
    r.world.signal_sshd(signal.SIGSTOP)
    r.pause(2)
    r.world.signal_sshd(signal.SIGCONT)


def sshd_killed(r: Round) -> None:
    """kill -9 of the machine's sshd with its sessions; it is back after a while."""
    r.world.signal_sshd(signal.SIGKILL)
    r.pause()
    r.world.start_sshd()


def local_damage(r: Round) -> None:
    """A file of a finished checkpoint on the laptop is truncated, or a bit of it flips."""
    key = r.some_checkpoint()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not r.world.local(*key).is_dir():
        time.sleep(0.01)
    if file := r.some_file(r.world.local(*key)):
        r.world.damage(file, r.rng, truncate=r.rng.random() < 0.5)


def staging_damage(r: Round) -> None:
    """A file that was brought here, of a checkpoint that is not complete yet, is truncated, or a bit of it flips."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for staging in r.world.models.glob("*/.partial/checkpoint-*/"):
            with suppress(OSError):
                names = [p for p in staging.iterdir() if p.is_file() and not p.name.startswith((".", "manifest"))]
                if names:
                    r.world.damage(r.rng.choice(sorted(names)), r.rng, truncate=r.rng.random() < 0.5)
                    return
        time.sleep(0.002)


def remote_damage(r: Round) -> None:
    """A file on the machine is damaged for a while, of a checkpoint that is not here yet if there is one."""
    waiting = [key for key in r.world.saved() if not r.world.local(*key).exists()]
    folder = r.world.remote(*(r.rng.choice(waiting) if waiting else r.some_checkpoint()))
    file = r.some_file(folder)
    if file is None:
        return
    good = file.read_bytes()
    r.world.damage(file, r.rng, truncate=r.rng.random() < 0.5)
    r.pause(3)
    file.write_bytes(good)


def deleted_while_copied(r: Round) -> None:
    """A checkpoint disappears from the machine while it is copied, and comes back."""
    folder = r.world.remote(*r.some_checkpoint())
    away = r.world.machine / "away"
    folder.rename(away)
    r.pause()
    away.rename(folder)


def still_growing(r: Round) -> None:
    """A checkpoint is being saved, file by file, while the monitor looks."""
    step = max(s for _, s in r.world.saved()) + 10
    r.world.save(RUN, step, r.rng, pause=r.rng.uniform(0.01, 0.1))


def replaced(r: Round) -> None:
    """Another training saves another checkpoint under a name that is there already."""
    run, step = r.some_checkpoint()
    r.world.remote(run, step).rename(r.world.machine / f"old-{time.monotonic_ns()}")
    r.world.save(run, step, r.rng)


def disk_full(r: Round) -> None:
    """The laptop's disk is full for a while."""
    if not r.world.can_fill_disk:
        return
    ballast = r.world.models / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    r.pause(1.5)
    ballast.unlink()


def two_monitors(r: Round) -> None:
    """A second monitor is started, and one of the two is killed."""
    second = r.world.start_monitor()
    r.pause()
    r.world.kill(r.rng.choice([r.monitor, second]))
    r.monitor = r.world.start_monitor()


def manual_download(r: Round) -> None:
    """The same checkpoint is downloaded by hand beside the monitor, and that download is killed."""
    run, step = r.some_checkpoint()
    download = subprocess.Popen(
        [r.world.laptop / "scripts" / "download_checkpoint.sh", str(step), "--run", run],
        cwd=r.world.laptop,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=laptop_environment(),
    )
    r.pause()
    r.world.kill(download)


def no_plain_name(r: Round) -> None:
    """A run whose name cannot be fetched by: it is told, nobody deletes the machine, and a plain name brings it."""
    name = r.rng.choice(["my run", "qwen_lr=1e-5", "run+dora", "läuft", "v1:final", "group/run"])
    r.world.save(name, 10, r.rng)
    r.world.kill(r.monitor)
    for command in (["monitor_checkpoints.sh", "0", "--once"], ["tnr", "delete", "1", "--yes"]):
        status, said = r.world.ask(*command)
        if status != 1 or name not in said:
            r.world.violations.append(
                f"{' '.join(command)} with a run {name!r} there ended with {status}: {said[-200:]!r}"
            )
    (r.world.remote_models / name).rename(r.world.remote_models / "plain")
    r.monitor = r.world.start_monitor()


def folder_fsync_refused(r: Round) -> None:
    """The laptop's disk flushes no folders (CIFS, FUSE), and goes on so."""
    r.world.refuse("fsync")


def no_flock(r: Round) -> None:
    """The laptop's disk locks no files (Lustre, NFS) for a while: the monitor goes on, or ends and says why."""
    r.world.kill(r.monitor)
    r.world.refuse("flock")
    monitor = r.world.start_monitor()
    r.pause(3)
    if monitor.poll() is not None and (monitor.returncode != 2 or "lock" not in r.world.said()[-1]):
        r.world.violations.append(f"without locks, the monitor ended with {monitor.returncode}: {r.world.said()}")
    r.world.kill(monitor)  # it may be about to end
    r.world.refuse()
    r.monitor = r.world.start_monitor()


def noisy_login(r: Round) -> None:
    """The machine's shell prints at start, for a while."""
    start = r.world.machine / "home" / ".bashrc"
    start.write_text("echo Welcome; trap 'echo Goodbye' EXIT; printf 'no end of line'")
    r.pause(3)
    start.unlink()


def grown(r: Round) -> None:
    """A file of a finished checkpoint on the machine grows far beyond its manifest, for a while."""
    file = r.some_file(r.world.remote(*r.some_checkpoint()))
    good = file.read_bytes()
    with file.open("ab") as grows:
        grows.truncate(20 * 2**30)
    r.pause(3)
    file.write_bytes(good)


FAULTS: list[Callable[[Round], None]] = [
    monitor_killed,
    monitor_interrupted,
    transfer_killed,
    connection_cut,
    network_frozen,
    sshd_killed,
    local_damage,
    staging_damage,
    remote_damage,
    deleted_while_copied,
    still_growing,
    replaced,
    disk_full,
    two_monitors,
    manual_download,
    no_plain_name,
    folder_fsync_refused,
    no_flock,
    noisy_login,
    grown,
]


@dataclass
class Outcome:
    """What became of one round."""

    number: int
    fault: str
    seconds: float | None  # from the fault's end until all was here
    wrong: list[str]


def play(world: World, seed: int, number: int) -> Outcome:
    """One round; its dice depend on the seed and its number alone."""
    rng = random.Random(f"{seed}-{number}")
    fault = FAULTS[number % len(FAULTS)]
    world.reset()
    world.violations.clear()
    for step in range(10, 10 * rng.randint(2, 4), 10):
        world.save(RUN, step, rng)
    game = Round(world, rng, world.start_monitor())
    game.pause(2.5)
    fault(game)
    if game.monitor.poll() is not None:  # a second monitor that was refused, or one that fell
        if fault is not two_monitors:
            world.violations.append(f"the monitor ended by itself with status {game.monitor.returncode}")
        game.monitor = world.start_monitor()
    seconds = world.wait_until_all_is_here(PATIENCE)
    return Outcome(number, fault.__name__, seconds, [*sorted(set(world.violations)), *world.missing()])


def play_share(folder: Path, seed: int, numbers: list[int]) -> list[Outcome]:
    """One worker's rounds, in a world of its own."""
    outcomes = []
    world = World(folder, disk_bytes=24 * 2**20)
    try:
        for number in numbers:
            if FAULTS[number % len(FAULTS)] is disk_full and not world.can_fill_disk:
                continue
            world.log.write_bytes(b"")
            outcome = play(world, seed, number)
            outcomes.append(outcome)
            if outcome.wrong:
                said = "\n  ".join(world.said())
                print(
                    f"round {number} ({outcome.fault}): {outcome.wrong}; its monitor said last:\n  {said}", flush=True
                )
    finally:
        world.close()
    return outcomes


def print_table(outcomes: list[Outcome], seed: int) -> None:
    """A line for each fault."""
    print(f"\n{'Fault':<22}{'rounds':>7}{'good':>6}{'slowest':>10}")
    for name in [fault.__name__ for fault in FAULTS]:
        if mine := [o for o in outcomes if o.fault == name]:
            slowest = max((o.seconds for o in mine if o.seconds is not None), default=float("nan"))
            print(f"{name:<22}{len(mine):>7}{sum(not o.wrong for o in mine):>6}{slowest:>8.1f} s")
    print(f"{'all':<22}{len(outcomes):>7}{sum(not o.wrong for o in outcomes):>6}  seed {seed}")


def main() -> int:
    """Play the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--workers", type=int, default=2)
    names = [fault.__name__ for fault in FAULTS]
    parser.add_argument("--only", choices=names, help="this fault", metavar="FAULT")
    arguments = parser.parse_args()
    rounds = [n for n in range(arguments.count * len(FAULTS)) if arguments.only in (None, names[n % len(names)])]
    rounds = rounds[: arguments.count]
    for number in (signal.SIGINT, signal.SIGTERM):  # the first, as all below would ignore it in the background
        signal.signal(number, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as place,
        # Processes: a relay must not wait for another's Python.
        ProcessPoolExecutor(arguments.workers) as pool,
    ):
        shares = [rounds[i :: arguments.workers] for i in range(arguments.workers)]
        played = [pool.submit(play_share, Path(place) / f"{i}", arguments.seed, s) for i, s in enumerate(shares)]
        outcomes = [outcome for share in played for outcome in share.result()]
    print_table(outcomes, arguments.seed)
    if len(outcomes) < len(rounds):
        print("note: disk_full was not played: mounting a small tmpfs is not permitted here")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
