"""Puts the repository on Python's path: every entry point starts with ``import _bootstrap``.

Ctrl+C before `run_entry_point` takes over simply ends the process: in the midst of imports KeyboardInterrupt would be
a traceback and status 1, which reads as an answer, or be lost in a callback.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    from socrates.errors import SocratesError, run_entry_point  # noqa: F401
except Exception as error:  # missing, or cut off; Python would leave with 1, which reads as NO-GO
    print(
        f"error: {ROOT / 'socrates'} is missing beside scripts/, or not complete ({error}); upload it too:\n"
        "  tnr scp 0 socrates/ ~/socrates-training/socrates/",
        file=sys.stderr,
    )
    sys.exit(2)
