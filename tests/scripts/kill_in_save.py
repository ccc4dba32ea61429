"""Kill every rank of a training with -9 in the middle of a save: kill_in_save.py PROJECT CHECKPOINT.

Ends with 0 once the ranks are dead and the checkpoint is there without a manifest, with 1 if the save was missed.
"""

import os
import signal
import sys
import time
from pathlib import Path

from processes import rank_processes


def main() -> int:
    """Wait for the folder, kill, look."""
    project, checkpoint = Path(sys.argv[1]).resolve(), Path(sys.argv[1]) / sys.argv[2]
    manifest = checkpoint / "manifest.json"
    while not checkpoint.exists():
        time.sleep(0.002)
    ranks = rank_processes(project)  # looking for them takes a while, and the save may not
    while not (checkpoint / "adapter_model.safetensors").exists():
        time.sleep(0.002)
    for process in ranks:
        os.kill(process, signal.SIGKILL)
    if manifest.exists():
        print("the save was over already", file=sys.stderr)
        return 1
    while rank_processes(project):
        time.sleep(0.01)
    return 1 if manifest.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
