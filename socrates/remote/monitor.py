"""Checkpoint monitor of an instance: every complete checkpoint is fetched, for as long as it takes.

Covers: lost connections, a stopped instance, a full disk, a damaged file on either side and errors of our own are said
once each, for as long as they last, and outlived; the record `models/.monitor/instance-ID.json` tells other programs
what happened. What is not here at all comes before what is here is read through, and the newest first, since an
instance may die. Does not cover: how a checkpoint is fetched (`fetch.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from socrates.checkpoint import SET_ASIDE, is_finished
from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, plain
from socrates.files import Busy, write_json
from socrates.remote.fetch import DamagedThere, fetch_checkpoint, unfetchable
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import RemoteCheckpoint, list_folders, remote_digests
from socrates.remote.local import COMPLETE, RECORDS, NoSpace, local_state
from socrates.remote.logs import fetch_logs

_LONGEST_PAUSE = 60.0  # seconds between two attempts to connect (1, 2, 4 ...), or the interval, if that is longer
_KEPT = 500  # downloads and problems in the record


@dataclass
class Monitor:
    """One watch over one instance.

    Attributes:
        models: the folder that holds the runs here.
        interval: seconds between two looks.
        once: one look, then the end.
        until_complete: the end comes when every run's last checkpoint is here.
        run: this run only.
        light: LIGHT_FILES only.
        here: the checkpoints that are here, verified.
    """

    instance: Instance
    models: Path
    log: Log
    interval: float = 300.0
    once: bool = False
    until_complete: bool = False
    run: str | None = None
    light: bool = False
    here: set[Path] = field(default_factory=set)
    _missing: set[RemoteCheckpoint] = field(default_factory=set)
    _found: set[RemoteCheckpoint] = field(default_factory=set)
    _damaged_there: dict[RemoteCheckpoint, dict[str, str | None]] = field(default_factory=dict)
    _downloaded: list[tuple[str, int]] = field(default_factory=list)
    _listing: list[RemoteCheckpoint] | None = None
    _lost: set[str] = field(default_factory=set)  # what stays there: no name to fetch it by, or no room here
    _rounds: int = 0
    _last_round: float | None = None

    def watch(self) -> int:
        """Look, fetch, wait, and again; the exit status where there is an end.

        Raises:
            Unreachable: ``once``, and the instance cannot be reached.
            SocratesError: the very first look failed in a way that no waiting mends (no such instance).
        """
        retry = 1.0
        while True:
            pause = self.interval
            try:
                more = self._round()
                retry, pause = 1.0, 0.0 if more else pause
                if not more and (status := self._end()) is not None:
                    return status
            except Unreachable as error:
                if self.once:
                    raise
                self.log.begin("connection", f"Connection lost: {error}; trying again")
                pause, retry = retry, min(2 * retry, max(_LONGEST_PAUSE, self.interval))
            except Exception as error:
                if (self._listing is None and isinstance(error, SocratesError)) or self.once:
                    raise
                self.log.begin("round", f"✗ {_describe(error)}")
            finally:
                self._write_record()
            time.sleep(pause)

    def _round(self) -> bool:
        """One look; True if it was broken off after a long copy, to see first whether there is something newer."""
        listing, unnamed = list_folders(self.instance)
        self._listing = listing
        listed, downloaded = time.monotonic(), len(self._downloaded)
        self._rounds += 1
        self.log.end("connection", "Connected again")
        if self.run and all(checkpoint.run != self.run for checkpoint in listing):
            self.log.begin("no run", f"No checkpoint of {self.run} on the instance yet", problem=False)
        for gone in self._missing.difference(listing):
            self._settle(gone)  # deleted there, or written again
        several = len({checkpoint.run for checkpoint in listing}) > 1
        for checkpoint in self._in_order(listing):
            if len(self._downloaded) > downloaded and time.monotonic() - listed > self.interval:
                return True
            place = checkpoint.place(self.models)
            if self._bring(checkpoint, place, f"{checkpoint.run}/{checkpoint.name}" if several else checkpoint.name):
                self._settle(checkpoint)
                self.here.add(place)
            else:
                self._missing.add(checkpoint)
                self.here.discard(place)
        lines = [] if self.run else unfetchable(unnamed, self.models)
        lines += fetch_logs(self.instance, self.models)
        for gone in self._lost.difference(lines):
            self.log.end(gone)
        for line in lines:
            self.log.begin(line, f"✗ {line}", problem=SET_ASIDE not in line)
        self._lost = set(lines)
        self.log.end("round")
        self._last_round = time.time()
        return False

    def _in_order(self, listing: list[RemoteCheckpoint]) -> list[RemoteCheckpoint]:
        """What is not here at all before the rest, each newest first."""
        wanted = [item for item in listing if item.is_complete and self.run in (None, item.run)]
        return sorted(wanted, key=lambda item: (os.path.lexists(item.place(self.models)), -item.step, item.run))

    def _bring(self, checkpoint: RemoteCheckpoint, place: Path, label: str) -> bool:
        """Fetch a checkpoint if it is not here intact; whether it is here now.

        Raises:
            Unreachable, NoSpace: what no other checkpoint could escape either.
        """
        try:
            state = local_state(place, checkpoint.manifest_sha256)
            if state.kind == COMPLETE or (self.light and state.intact):
                return True
            if not self._is_still_damaged_there(checkpoint):
                self._fetch(checkpoint, place, label)
                return True
        except Unreachable:
            raise
        except NoSpace as error:
            self._missing.add(checkpoint)
            raise NoSpace(f"{label}: {error}; goes on by itself when there is room") from error
        except Busy as error:
            self.log.begin(("busy", checkpoint), f"{error}; left to it", problem=False)
        except DamagedThere as error:
            self._damaged_there[checkpoint] = error.files
            self.log.begin(checkpoint, f"✗ {label}: {error}; fetched again when that changes there")
        except Exception as error:  # must not end a watch of two days
            self.log.begin(checkpoint, f"✗ {label}: {_describe(error)}")
        return False

    def _fetch(self, checkpoint: RemoteCheckpoint, place: Path, label: str) -> None:
        def starting() -> None:
            if checkpoint not in self._found:
                self.log.say(f"Found new checkpoint: {label}")
                self.log.say(f"Downloading {label}...")
                self._found.add(checkpoint)

        is_fetched = fetch_checkpoint(
            self.instance,
            checkpoint.folder,
            place,
            starting=starting,
            say=self.log.say,
            light=self.light,
            wait=self.once,
        )
        if is_fetched:
            self.log.say(f"✓ {label} downloaded successfully")
            self._downloaded.append((checkpoint.run, checkpoint.step))
            self._write_record()

    def _is_still_damaged_there(self, checkpoint: RemoteCheckpoint) -> bool:
        files = self._damaged_there.get(checkpoint)
        return files is not None and remote_digests(self.instance, checkpoint.folder, list(files)) == files

    def _settle(self, checkpoint: RemoteCheckpoint) -> None:
        """Nothing is wrong with it any more."""
        self._missing.discard(checkpoint)
        self._damaged_there.pop(checkpoint, None)
        self.log.end(("busy", checkpoint))
        self.log.end(checkpoint)

    def _end(self) -> int | None:
        """The exit status, if this is the end."""
        if self.once:
            return EXIT_NO if self._missing or self._lost else EXIT_DONE
        if not self.until_complete:
            return None
        listing = [item for item in self._listing or () if self.run in (None, item.run)]
        newest = {item.run: item for item in reversed(listing) if item.is_complete}
        unfinished = {item.run for item in listing} - {run for run, item in newest.items() if self._is_last(item)}
        if not listing or unfinished or self._missing - self._damaged_there.keys():
            return None
        if self._missing:
            self.log.say(f"✗ Training complete, but {len(self._missing)} checkpoints are damaged on the instance")
            return EXIT_NO
        self.log.say(f"✓ Training complete: all {len(self.here)} checkpoints are here, verified")
        return EXIT_NO if self._lost else EXIT_DONE

    def _is_last(self, checkpoint: RemoteCheckpoint) -> bool:
        """Whether a checkpoint is here and says that it is the last one of its run."""
        with suppress(SocratesError):  # not here, or no trainer of ours wrote it
            return is_finished(checkpoint.place(self.models))
        return False

    def _write_record(self) -> None:
        """For other programs (`local.MonitorRecord`); that it cannot be written is no reason to stop."""
        record = {
            "pid": os.getpid(),
            "rounds": self._rounds,
            "last_round": self._last_round,
            "downloaded": self._downloaded[-_KEPT:],
            "unsolved": self.log.problems[-_KEPT:],
        }
        with suppress(SocratesError, OSError):
            write_json(self.models / RECORDS / f"instance-{self.instance.id}.json", record)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, SocratesError | OSError) else f"a defect of this program: {error!r}"


@dataclass
class Log:
    """Lines for the person: what lasts is said once for as long as it lasts.

    Attributes:
        write: prints a line.
    """

    write: Callable[[str], None]
    _open: dict[Hashable, str] = field(default_factory=dict)  # "" for a mere notice

    @property
    def problems(self) -> list[str]:
        """The problems that last now."""
        return [text for text in self._open.values() if text]

    def say(self, text: str) -> None:
        """Print a line with the local time, as in the guide."""
        self.write(f"[{datetime.now():%Y-%m-%d %H:%M:%S}] {plain(text, 1000)}")

    def begin(self, key: Hashable, text: str, *, problem: bool = True) -> None:
        """Say something that lasts, unless it was said already; a mere notice is no problem."""
        if key not in self._open:
            self.say(text)
            self._open[key] = text if problem else ""

    def end(self, key: Hashable, text: str | None = None) -> None:
        """It is over; said only where there is something to say."""
        if self._open.pop(key, None) is not None and text:
            self.say(text)
