#!/usr/bin/env bash
# Summary: Decide by the guide's nine success criteria whether the infrastructure test (phase 2) passed.
# Usage: ./scripts/verify_test_run.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh" || exit 2 # 1 only where it is the answer
find_python
answer "$PYTHON" "$SOCRATES_ROOT/scripts/verify_test_run.py" "$@"
