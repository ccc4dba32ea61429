#!/usr/bin/env bash
# Summary: Decide by the guide's nine success criteria whether the infrastructure test (phase 2) passed.
# Usage: ./scripts/verify_test_run.sh [ID] [--config FILE] [--json]
#
# Prints the guide's checklist with the evidence under each line, and records the verdict in
# evaluation_results/socrates-qwen-test-run/verification.json. Asks the machine, so run it before `tnr delete`; every
# checkpoint is read in full, there and here. What cannot be judged is "not measured" and never ticked.
#   ID             the instance, as in `tnr status` (0)
#   --config FILE  the test's run config (config_test_run.json)
#   --json         the record as JSON
# Exit status: 0 PASS, 1 FAIL, 2 NOT DECIDED: not measured, still running, or not reachable (an older record stays then).
set -euo pipefail
trap 'status=$?; [[ -n ${answered:-} || $status != 1 ]] || exit 2' EXIT # 1 only where it is the answer
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$SOCRATES_ROOT/scripts/lib/machine.sh"

instance=''
json=''
config=config_test_run.json
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --json) json=1; shift ;;
    --config) need_value "$@"; config=$2; shift 2 ;;
    -*) die_unknown "$1" ;;
    *) [[ -z $instance ]] || die_usage "one instance at a time"; instance=$1; shift ;;
  esac
done
instance=${instance:-0}
check_instance_id "$instance"
cd "$SOCRATES_ROOT"
[[ -f $config ]] || die "$config: no such file"
find_python
status=0
"$PYTHON" scripts/verify_test_run.py --instance "$instance" --config "$config" ${json:+--json} || status=$?
((status <= 2 || status == 130)) || die "the verification was ended (status $status): no verdict"
answered=1
exit "$status"
