#!/usr/bin/env bash
# Summary: Play faults between laptop and machine at random moments, and print what became of the checkpoints.
# Usage: tests/faults/run.sh [SEED] [COUNT] [--workers N] [--only FAULT]
#
# Real scripts, a real sshd on 127.0.0.1. SEED 0 and COUNT 200 unless given.
# Exit status: 0 no checkpoint was ever there in part and all arrived, 1 otherwise.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
[[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
find_python
PYTHONPATH=$SOCRATES_ROOT:$SOCRATES_ROOT/tests/faults exec "$PYTHON" "$SOCRATES_ROOT/tests/faults/faults.py" "$@"
