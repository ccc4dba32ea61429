#!/usr/bin/env bash
# Summary: Fetch one checkpoint from an instance, verified. Asks nothing; there and intact already is fine.
# Usage: ./scripts/download_checkpoint.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh" || exit 2
find_python
exec "$PYTHON" "$SOCRATES_ROOT/scripts/download_checkpoint.py" "$@"
