"""One error for everything that a user can put right, and one way out of every entry point."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NoReturn

# What the model libraries raise for files that are damaged, missing, or do not fit.
LIBRARY_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError)

# Options that are gone, and what is in their place; scripts/lib/common.sh reads these lines, too.
REMOVED_OPTIONS = {
    "--merge": "evaluate the adapter as it is: merging changed nothing but rounding",
    "--without-manifest": "a checkpoint has a manifest once it is complete; tnr scp takes other files by name",
    "--settle": "it went with --without-manifest: a checkpoint has a manifest once it is complete",
    "--hostfile": "start train_full_dataset.py with torchrun or DeepSpeed's own --hostfile, on a shared file system",
}

EXIT_DONE, EXIT_NO, EXIT_CANNOT, EXIT_INTERRUPTED = 0, 1, 2, 130


class SocratesError(Exception):
    """What is wrong, where (file, line, key), and what to do about it; printed without a traceback."""


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for a message of ours."""
    return str(error).strip().split("\n")[0] or type(error).__name__


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
    traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see scripts/_bootstrap.py; nohup's SIG_IGN stays in force
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main() or EXIT_DONE
        sys.stdout.flush()
    except SocratesError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_CANNOT
    except SystemExit as leaving:  # argparse has refused the command line, or shown its help
        for word in sys.argv[1:] if leaving.code else ():
            if (option := word.partition("=")[0]) in REMOVED_OPTIONS:
                print(f"{option} is gone: {REMOVED_OPTIONS[option]}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) went away
        sys.stderr.close()
        status = EXIT_CANNOT
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            why = (
                f"the package {error.name} is not installed for {sys.executable}; activate the environment "
                "(source venv/bin/activate), or pip install -r requirements_full_training.txt"
            )
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            why = f"no space left: {error.filename or 'where the output goes'}"
        else:
            traceback.print_exc()
            why = "this is a defect of the program, not of your input; please report the lines above"
        print(f"error: {why}", file=sys.stderr)
        status = EXIT_CANNOT
    sys.exit(status)
