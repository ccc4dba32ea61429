"""Look at every process's argument list, again and again, for texts that must not be there.

The texts come in the environment variable SECRETS, so that they are in no argument list because of this program; what
was seen is written to the file named by the only argument, a line each, without the secret. Ends on SIGTERM.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Look until told to stop."""
    secrets = [text.encode() for text in os.environ["SECRETS"].split()]
    seen: set[bytes] = set()
    rounds = 0
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while not stopped:
        rounds += 1
        time.sleep(0.005)
        for process in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - five times as fast as pathlib
            with suppress(OSError), open(f"/proc/{process}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123
                line = file.read()
                if any(secret in line for secret in secrets):
                    seen.add(line)
    with Path(sys.argv[1]).open("wb") as file:
        file.write(f"looked {rounds} times\n".encode())
        for line in seen:
            for secret in secrets:
                line = line.replace(secret, b"SECRET")
            file.write(b"seen: " + line.replace(b"\0", b" ") + b"\n")


if __name__ == "__main__":
    main()
