"""One error for everything that a user can put right, and one way out of every entry point."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

# What the model libraries raise for files that are damaged, missing, or do not fit.
LIBRARY_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError)

# Options that are gone: the scripts that had one, its name, and what is in its place; scripts/lib/common.sh reads these
# lines, too.
REMOVED_OPTIONS = {
    "evaluate evaluate_checkpoint predict --merge": "leave it out: merging changed nothing but rounding",
    "download_checkpoint --without-manifest": "tnr scp takes by name what has no manifest and so is not complete",
    "download_checkpoint --settle": "a checkpoint is complete once it has a manifest, and nothing else is fetched",
    "launch_full_training launch_test_run preflight supervise --hostfile": "for several machines: examples/cluster/",
    "rehearse --fresh": "leave it out: every rehearsal starts anew",
    "status --json": "venv/bin/python scripts/lib/run.py machine.status prints it on the machine",
    "status --watch": "in its place, watch -n 60 ./scripts/status.sh 0",
    "verify_test_run --json": "evaluation_results/RUN/verification.json holds the same",
    "verify_checkpoint --json": "the exit status says whether all are intact, a line each what is wrong",
    "report --run": "the training's log is found through the results",
    "preflight --json": "the exit status says whether all is well, a line each what is not",
    "launch_test_run supervise --resume": "leave it out: a training always goes on from its newest checkpoint",
    "inspect_data prepare_data --processes": "leave it out: one process is enough",
}

# Control characters but newline and tab, line separators, marks that reorder a line, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What steers a terminal: colours, titles, links.
_SEQUENCES = re.compile(r"(\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b([]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])")
_FILLERS = dict.fromkeys(map(ord, "\u034f\u115f\u1160\u3164"))  # printable by their category, but nothing is shown

EXIT_DONE, EXIT_NO, EXIT_CANNOT, EXIT_INTERRUPTED = 0, 1, 2, 130


class SocratesError(Exception):
    """What is wrong, where (file, line, key), and what to do about it; printed without a traceback."""


def escaped(text: str) -> str:
    """A text from a file or another machine, with an escape for each sign that could steer a terminal or mislead."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain(value: Any, limit: int = 200) -> str:
    """A text from another machine on one line, without what steers a terminal or does not show; "" for no text."""
    text = _SEQUENCES.sub("", value[: 20 * limit]) if isinstance(value, str) else ""
    return "".join(filter(str.isprintable, re.sub(r"\s", " ", text.translate(_FILLERS)))).strip()[:limit]


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for a message of ours; of a list its first item."""
    first, *more = str(error).strip().split("\n")
    return f"{first} {more[0].strip()}" if more and first.endswith(":") else first or type(error).__name__


def make_parser(doc: str | None, program: str | None = None) -> argparse.ArgumentParser:
    """An entry point's parser, whose help begins with ``doc``; ``program`` is what a person types, if not its file."""
    formatter = argparse.RawDescriptionHelpFormatter
    return _Parser(prog=program, description=doc, formatter_class=formatter, allow_abbrev=False)


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        for before, word in pairwise(["", *(sys.argv[1:] if args is None else args)]):
            if not word or (word.startswith("--") and word.endswith("=")):
                self.error(f"{word or before or 'an argument'}: is empty; is a variable not set?")
        return super().parse_args(args, namespace)


def run_entry_point(main: Callable[[], int | None]) -> NoReturn:
    """Call ``main`` and leave the process: 0 done, 1 the answer is no, 2 cannot, 130 interrupted.

    Python's own status for an uncaught exception is 1, which here would read as "the answer is no" (a NO-GO).
    Every failure therefore leaves with 2: a SocratesError as its message alone, a defect of this program with its
    traceback. For `answer` in scripts/lib/common.sh 0 and 1 are 100 and 101, which no Python says that died before.
    """
    added = 100 if os.environ.pop("SOCRATES_ANSWER", None) else 0
    for stream in filter(None, (sys.stdout, sys.stderr)):  # whatever the locale: our lines have signs beyond ASCII
        with suppress(OSError, ValueError):  # it was changed or closed under us
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see scripts/_bootstrap.py; nohup's SIG_IGN stays in force
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main() or EXIT_DONE
        if sys.stdout:
            sys.stdout.flush()
    except SocratesError as error:
        _say(f"error: {error}")
        status = EXIT_CANNOT
    except SystemExit as leaving:  # argparse has refused the command line, or shown its help
        if leaving.code:
            _say_what_is_gone(Path(sys.argv[0]).stem, {word.partition("=")[0] for word in sys.argv[1:]})
            raise
        status = EXIT_DONE
    except KeyboardInterrupt:
        _say("interrupted")
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) went away
        status = EXIT_CANNOT
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            why = (
                f"the package {error.name} is not installed for {sys.executable}; activate the environment "
                "(source venv/bin/activate), or pip install -r requirements_full_training.txt"
            )
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            why = f"no space left: {error.filename or 'where the output goes'}"
        elif isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP):
            why = f"{error.filename or 'a file'}: {error.strerror}"
        elif isinstance(error, RecursionError):
            why = "a file that was read is nested too deeply"
        else:
            _say(traceback.format_exc().rstrip())
            why = "this is a defect of the program, not of your input; please report the lines above"
        _say(f"error: {why}")
        status = EXIT_CANNOT
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # a full disk, or nobody reads: Python's own try at its end would change the status
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status + added * (status in (EXIT_DONE, EXIT_NO)))


def _say(text: str) -> None:
    """Print to standard error, if that can be: what cannot be said must not change the exit status."""
    with suppress(OSError, AttributeError):
        print(escaped(text), file=sys.stderr, flush=True)


def _say_what_is_gone(script: str, words: Collection[str]) -> None:
    for key, instead in REMOVED_OPTIONS.items():
        *scripts, option = key.split()
        if script in scripts and option in words:
            _say(f"{option} is gone: {instead}")
