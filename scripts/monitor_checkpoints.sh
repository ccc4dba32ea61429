#!/usr/bin/env bash
# Summary: Fetch every checkpoint of an instance as it is saved, verified, until you stop it.
# Usage: ./scripts/monitor_checkpoints.sh [ID] [SECONDS] [--run NAME] [--light] [--once | --until-complete | --missing]
#
# Checkpoints go to models/RUN/checkpoint-N/, which appears only when every byte is verified.
# Lost connections, a full disk and its own end are no harm: run it again, and it goes on where it stopped.
#   ID                instance, as in `tnr status` (0)
#   SECONDS           between two looks, 1 to 86400 (300)
#   --run NAME        this run only (all runs on the instance)
#   --light           only the five files that the guide lists and the training's record, about 390 MB; a training
#                     cannot go on from such a copy; a later fetch without --light completes it
#   --once            fetch what is there now, then end
#   --until-complete  end when every run's last checkpoint is here
#   --missing         fetch nothing: a line for each checkpoint that is not here yet, and for a running training
# Exit status: 0 done (nothing is missing), 1 something could not be fetched (is missing), 2 cannot,
#   130 stopped with Ctrl+C, 143 stopped by a signal.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

options=() places=() end=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --run) need_value "$@"; options+=("$1=$2"); shift 2 ;;
    --light) options+=("$1"); shift ;;
    --once | --until-complete | --missing)
      [[ -z $end || $end == "$1" ]] || die_usage "$1 and $end exclude each other"
      end=$1; shift ;;
    -*) die_unknown "$1" ;;
    *) places+=("$1"); shift ;;
  esac
done
((${#places[@]} <= 2)) || die_usage "needs ID and SECONDS at most, got ${#places[@]} arguments"
id=${places[0]:-0} seconds=${places[1]:-300}
[[ $id =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$ ]] || die_usage "'$id' is no instance id; \`tnr status\` lists them"
[[ $seconds =~ ^([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)$ ]] ||
  die_usage "SECONDS must be 1 to 86400, not '$seconds'"
find_python
export SOCRATES_ROOT
cd "$SOCRATES_ROOT"
exec "$PYTHON" scripts/monitor_checkpoints.py "$id" "$seconds" ${end:+"$end"} "${options[@]}"
