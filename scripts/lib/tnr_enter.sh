#!/usr/bin/env bash
# Summary: What ssh is for a host, for a folder of this machine: runs a shell line in the instance's home folder.
# Usage: bash scripts/lib/tnr_enter.sh PROJECT FOLDER LINE...
#
# The line sees what a machine would have: its own home, no token, nothing of the project's environment.
# Exit status: the line's own; 255 the instance is not there.
set -euo pipefail
project=$1 folder=$2
shift 2
cd -- "$folder/home" 2>/dev/null || {
  printf 'tnr: %s/home: not there\n' "$folder" >&2
  exit 255
}
kept=()
IFS=: read -r -a entries <<<"$PATH"
for entry in "${entries[@]}"; do
  for own in "$project/scripts" "$project/venv/bin" ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin"}; do
    [[ $entry != "$own" && ! $entry -ef $own ]] || continue 2
  done
  kept+=("$entry")
done
unset HF_TOKEN HUGGING_FACE_HUB_TOKEN TNR_API_TOKEN VIRTUAL_ENV VIRTUAL_ENV_PROMPT OLDPWD "${!SOCRATES_@}"
PATH=$(IFS=:; printf '%s' "${kept[*]}")
HOME=$folder/home
SOCRATES_INSTANCE=$folder # by this, `tnr delete` finds what still runs
export PATH HOME SOCRATES_INSTANCE
exec bash -c "$*"
