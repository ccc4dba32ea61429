#!/usr/bin/env bash
# Summary: Run all checks: ruff, import-linter, shellcheck, bats, faults between laptop and machine, pytest.
# Usage: ./scripts/test.sh [--fast] [PYTEST_ARGUMENT...]
#
# Makes its own virtual environment (venv/) on the first run.
# The bats tests run beside the others; one that fails is named at once, and their whole output comes at the end.
#   --fast    leave out what starts training processes: some three minutes, for the work between commits
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
bats=''
end_bats() {
  [[ -n $bats ]] || return 0
  kill -- "-$bats" 2>/dev/null || return 0
  timeout --foreground 20 tail -f --pid="$bats" /dev/null || true # its tests end what they have started
}
trap 'end_bats; rm -rf -- "$logs"' EXIT
failed=()
check() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  if [[ -t 1 ]]; then
    "$@" || failed+=("$name")
  else
    "$@" 2>&1 | tee -- "$logs/$name" || failed+=("$name")
  fi
}

# In a log, the reason of a failure is thousands of lines before its end, or was cut away.
repeat_failure() {
  [[ -f $logs/$1 ]] || return 0
  printf '\n== %s failed:\n' "$1"
  { grep -E -A 12 '^(not ok|round [0-9]+ |FAILED|ERROR)' -- "$logs/$1" || tail -n 20 -- "$logs/$1"; } | head -n 60
}

mapfile -t shell_scripts < <(git ls-files --cached --others --exclude-standard '*.sh' '*.bash' '*.bats' '*.sbatch' scripts/tnr scripts/activate .ci/run)
check "ruff check" ruff check --quiet .
check "ruff format" ruff format --quiet --check .
check "import-linter" lint-imports --no-cache
check "shellcheck" shellcheck "${shell_scripts[@]}"

# They wait more than they compute. In a session of its own, all of it can be ended, and none of it reads the terminal.
: >"$logs/bats"
setsid bats --timing "${bats_filter[@]}" tests/scripts </dev/null >>"$logs/bats" 2>&1 &
bats=$!
tail -n +1 -f --pid="$bats" -- "$logs/bats" | sed -un 's/^not ok/\nbats: &/p' &
told=$!
[[ -n $fast ]] || check "faults" tests/faults/run.sh 0 200 --workers 4
check "pytest" python -m pytest -n 2 --dist loadfile "${selection[@]}" "$@"
# torch's kernels for any processor round otherwise than this machine's
if [[ -z $fast && $# == 0 && ${ATEN_CPU_CAPABILITY:-} != default ]]; then
  check "pytest, any processor" env ATEN_CPU_CAPABILITY=default python -m pytest -n 2 --dist loadfile -m numerical \
    tests/{inference,model,evaluation,training}
fi
printf '\n== bats\n'
wait "$bats" || failed+=("bats")
bats=''
wait "$told"
cat -- "$logs/bats"

printf '\n'
if ((${#failed[@]})); then
  for name in "${failed[@]}"; do repeat_failure "$name"; done
  printf 'FAILED: %s\n' "${failed[*]}"
  exit 1
fi
echo "All checks passed in $SECONDS s"
