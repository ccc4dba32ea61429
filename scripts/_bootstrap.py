"""Puts the repository on Python's path: every entry point starts with ``import _bootstrap``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    import socrates.errors  # noqa: F401
except ImportError:  # Python would leave with 1, which reads as NO-GO
    print(
        f"error: {ROOT / 'socrates'} is missing beside scripts/, or not complete; upload it too:\n"
        "  tnr scp 0 socrates/ ~/socrates-training/socrates/",
        file=sys.stderr,
    )
    sys.exit(2)
