#!/usr/bin/env bash
# Summary: Fetch one checkpoint from an instance, verified. Asks nothing; there and intact already is fine.
# Usage: ./scripts/download_checkpoint.sh STEP [--instance ID] [--run NAME] [--light]
#        ./scripts/download_checkpoint.sh --from ID:PATH --to FOLDER [--light]
#
# It goes to models/RUN/checkpoint-STEP/, which appears only when every byte is verified.
#   STEP                checkpoint-STEP
#   --instance ID       as in `tnr status` (0)
#   --run NAME          where several runs have that step
#   --light             only the five files that the guide lists and the training's record
#   --from, --to        any checkpoint-N on the instance, to a folder here as `tnr scp` understands it
# Exit status: 0 it is here, 2 cannot.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

options=() places=() from='' to='' of_run=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --instance | --run) need_value "$@"; options+=("$1=$2"); of_run=$1; shift 2 ;;
    --from) need_value "$@"; from=$2; shift 2 ;;
    --to) need_value "$@"; to=$2; shift 2 ;;
    --light) options+=("$1"); shift ;;
    -*) die_unknown "$1" ;;
    *) places+=("$1"); shift ;;
  esac
done
if [[ -n $from$to ]]; then
  [[ -n $from && -n $to ]] || die_usage "--from and --to go together"
  ((${#places[@]} == 0)) && [[ -z $of_run ]] || die_usage "--from does not go with ${places[0]:-$of_run}"
  options+=("--from=$from" "--to=$to")
else
  ((${#places[@]} == 1)) || die_usage "needs STEP, got ${#places[@]} arguments"
  [[ ${places[0]} =~ ^(0|[1-9][0-9]{0,11})$ ]] || die_usage "STEP must be a number, not '${places[0]}'"
fi
find_python
export SOCRATES_ROOT
exec "$PYTHON" "$SOCRATES_ROOT/scripts/download_checkpoint.py" "${places[@]}" "${options[@]}"
