#!/usr/bin/env bash
# Summary: Give every reader of untrusted files a number of mutated ones, and print on which it does wrong.
# Usage: tests/fuzz/run.sh [SEED] [COUNT] [--only READER]
#
# SEED 0 and COUNT 2000 (of each reader) unless given.
# Exit status: 0 no traceback, hang, control character or false answer, 1 otherwise.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
[[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
find_python
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTHONPATH=$SOCRATES_ROOT:$SOCRATES_ROOT/tests exec "$PYTHON" -m fuzz.fuzz "$@"
