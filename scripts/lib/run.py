"""What a script calls and no person types, a library module's `main`: `run.py remote.push 0 socrates-test-run`."""

import sys

sys.path[0] += "/.."
import _bootstrap

from importlib import import_module

if __name__ == "__main__":
    _bootstrap.run_entry_point(lambda: import_module(f"socrates.{sys.argv[1]}").main(*sys.argv[2:]))
