#!/usr/bin/env bash
# Summary: Make a training machine ready: a Python, venv/, the pinned packages; then say what it can carry.
# Usage: bash scripts/lib/setup_machine.sh [--config FILE]
#
# Runs ON the training machine, in the project's folder; run_remote_setup.sh brings it there and starts it. What is
# there already is left as it is.
#   --config FILE    also compare the machine with this run config
# Exit status: 0 ready, 1 something stands in the way (it is named), 2 the environment could not be made.
set -euo pipefail
trap 'status=$?; [[ -n ${asked:-} || $status != 1 ]] || exit 2' EXIT # 1 only where it is the answer
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --config) need_value "$@"; config=(--config "$2"); shift 2 ;;
    *) die_usage "unknown argument: $1" ;;
  esac
done
cd "$SOCRATES_ROOT"

# A Python of our own where the system's is too old or cannot make environments, as on many rented images.
find_uv() {
  command -v uv || command -v "$HOME/.local/bin/uv" || true
}
make_environment_with_uv() {
  local uv
  uv=$(find_uv)
  if [[ -z $uv ]]; then
    note "getting uv, which brings a newer Python"
    python3 -m pip install --user --quiet --disable-pip-version-check uv >&2 ||
      python3 -m pip install --user --quiet --disable-pip-version-check --break-system-packages uv >&2 ||
      curl --proto '=https' --tlsv1.2 -LsSf https://astral.sh/uv/install.sh | sh >&2 || true
    uv=$(find_uv)
  fi
  [[ -n $uv ]] || die "no Python 3.11, 3.12 or 3.13 here, and uv could not be installed; on Ubuntu: sudo apt-get install python3.12-venv"
  "$uv" venv --quiet --clear --seed --python 3.12 venv >&2 || die "uv could not make venv/ with Python 3.12: see its message above"
}

lock_environment
if ! has_environment && ! { base=$(newest_python) && "$base" -c 'import venv, ensurepip' 2>/dev/null; }; then
  make_environment_with_uv
fi
ensure_environment requirements_full_training.txt
echo "Environment: $("$PYTHON" --version) in $SOCRATES_ROOT/venv"
asked=1
answer "$PYTHON" scripts/preflight.py "${config[@]}"
