#!/usr/bin/env bash
# Summary: Fetch every checkpoint of an instance as it is saved, verified, until you stop it.
# Usage: ./scripts/monitor_checkpoints.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh" || exit 2 # 1 only where something is missing
find_python
# The watch is Python's alone: a signal that is sent to it must reach it.
[[ " $* " == *" --missing "* ]] || exec "$PYTHON" "$SOCRATES_ROOT/scripts/monitor_checkpoints.py" "$@"
answer "$PYTHON" "$SOCRATES_ROOT/scripts/monitor_checkpoints.py" "$@"
