#!/usr/bin/env bash
# Summary: How the training on a rented machine stands, on one screen.
# Usage: ./scripts/status.sh [ID] [--json] [--watch [SECONDS]]
#
# Shows phase, step, loss, speed, time left, money, GPUs, disk, checkpoints there and here, the monitor, and the log's
# last lines where something is wrong. It only looks: nothing is changed, on neither side.
#   ID                  the instance, as in `tnr status` (0)
#   --json              the same facts as JSON
#   --watch [SECONDS]   show it again every SECONDS (60) until q or Ctrl+C
# Exit status: 0 running well or complete, 1 not (failed, stopped, never started, no progress for 15 minutes, or the
# training warns of its loss or of GPUs that idle), 2 cannot tell (for example not reachable: what is known here is
# shown), 130 --watch was ended.
set -euo pipefail
trap 'status=$?; [[ -n ${answered:-} || $status != 1 ]] || exit 2' EXIT # 1 only where it is the answer
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$SOCRATES_ROOT/scripts/lib/machine.sh"

instance=''
json=''
watch=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --json) json=1; shift ;;
    --watch)
      watch=60
      shift
      if [[ ${1:-} =~ ^[0-9]+$ ]]; then
        [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] || die_usage "--watch needs 1 to 99999 seconds, not $1 (an instance stands before --watch)"
        watch=$1
        shift
      fi
      ;;
    -*) die_unknown "$1" ;;
    *) [[ -z $instance ]] || die_usage "one instance at a time"; instance=$1; shift ;;
  esac
done
instance=${instance:-0}
check_instance_id "$instance"
[[ -z $json || -z $watch ]] || die_usage "--json and --watch do not go together"
cd "$SOCRATES_ROOT"
find_python
status=0
"$PYTHON" scripts/status.py --instance "$instance" ${json:+--json} ${watch:+--watch "$watch"} || status=$?
((status <= 2 || status == 130)) || die "the look at instance $instance was ended (status $status)"
answered=1
exit "$status"
