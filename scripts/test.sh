#!/usr/bin/env bash
# Summary: Run all checks: ruff, import-linter, shellcheck, bats, faults between laptop and machine, pytest.
# Usage: ./scripts/test.sh [--fast] [PYTEST_ARGUMENT...]
#
# Makes its own virtual environment (venv/) on the first run.
# The bats tests run beside the others; their output comes at the end.
#   --fast    leave out what starts trainings or other programs: a minute and a half, for the work between commits
# Exit status: 0 all passed, 1 something failed, 2 the checks could not be run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

fast=''
selection=()
bats_filter=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --fast) fast=1; selection=(-m "not slow"); bats_filter=(--filter-tags '!slow'); shift ;;
    *) break ;;
  esac
done
ensure_environment requirements_full_training.txt requirements_dev.txt
cd "$SOCRATES_ROOT"
export VIRTUAL_ENV=$SOCRATES_ROOT/venv PATH=$SOCRATES_ROOT/venv/bin:$PATH
# One thread a process: the tests themselves use both cores.
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu TOKENIZERS_PARALLELISM=false

logs=$(mktemp -d)
failed=()
check() {
  printf '\n== %s\n' "$1"
  "${@:2}" 2>&1 | tee -- "$logs/$1" || failed+=("$1")
}

mapfile -t shell_scripts < <(git ls-files --cached --others --exclude-standard '*.sh' '*.bash' '*.bats' '*.sbatch' scripts/tnr scripts/activate .ci/run)
# They wait more than they compute. In a session of its own, all of it can be ended, and none of it reads the terminal.
setsid bats --timing "${bats_filter[@]}" tests/scripts </dev/null >"$logs/bats" 2>&1 &
bats=$!
trap 'kill -- "-$bats" 2>/dev/null || true; wait; rm -rf -- "$logs"' EXIT
check "ruff check" ruff check --quiet .
check "ruff format" ruff format --quiet --check .
check "import-linter" lint-imports --no-cache
check "shellcheck" shellcheck "${shell_scripts[@]}"
check "pytest" python -m pytest -n 2 --dist loadfile "${selection[@]}" "$@"
# torch's kernels for any processor round otherwise than this machine's
if [[ -z $fast && $# == 0 && ${ATEN_CPU_CAPABILITY:-} != default ]]; then
  check "pytest, any processor" env ATEN_CPU_CAPABILITY=default python -m pytest -n 2 --dist loadfile -m numerical \
    tests/{inference,model,evaluation,training}
fi
printf '\n== bats\n'
wait "$bats" || failed+=("bats")
cat -- "$logs/bats"

for name in "${failed[@]}"; do # in a log, the reason of a failure is thousands of lines before its end
  printf '\n== %s failed:\n' "$name"
  { grep -E -A 12 '^(not ok|# round |FAILED|ERROR)' -- "$logs/$name" || tail -n 20 -- "$logs/$name"; } | head -n 60
done
((${#failed[@]} == 0)) || { (IFS=, && echo "FAILED: ${failed[*]}"); exit 1; }
printf '\nAll checks passed in %d s\n' "$SECONDS"
