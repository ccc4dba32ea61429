#!/usr/bin/env bash
# Summary: How the training on a rented machine stands, on one screen.
# Usage: ./scripts/status.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh" || exit 2 # 1 only where it is the answer
find_python
answer "$PYTHON" "$SOCRATES_ROOT/scripts/status.py" "$@"
