#!/usr/bin/env bash
# Summary: Make a rented machine ready: upload code, configs and data, install the packages, check GPUs, driver, disk and data.
# Usage: ./run_remote_setup.sh [ID] [--config FILE] [--no-data]
#
# Run it again at any time: it sends what has changed and installs what is missing.
#   ID               the instance, as in `tnr status` (0)
#   --config FILE    send this run config, too, and compare the machine with it: config_full_dataset.json for the full run
#   --no-data        leave data/ where it is
# Exit status: 0 ready, 1 something stands in the way (it is named), 2 it could not be set up, 130 interrupted.
set -euo pipefail
trap 'status=$?; [[ -n ${answered:-} || $status != 1 ]] || exit 2' EXIT # 1 only where it is the answer
source "$(dirname "${BASH_SOURCE[0]}")/scripts/lib/common.sh"
cd "$SOCRATES_ROOT"
source scripts/lib/machine.sh
source scripts/lib/tnr_rsync.sh
trap 'note "interrupted: run it again to go on"; exit 130' INT

instance=''
config=''
data=1
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --config) need_value "$@"; config=$2; shift 2 ;;
    --no-data) data=''; shift ;;
    -*) die_unknown "$1" ;;
    *) [[ -z $instance ]] || die_usage "one instance at a time"; instance=$1; shift ;;
  esac
done
instance=${instance:-0}
check_instance_id "$instance"
[[ -z $config || -f $config ]] || die "$config: no such config"
[[ $config != */* ]] || die "$config: must stand in the project's folder, as it will on the machine"
check_rsync_here

echo "================================"
echo "Remote Setup"
echo "================================"
echo "Instance ID: $instance"
reach "$instance"
refuse_while_training "$instance"
# Uploads need rsync there, and rented images may lack it.
# shellcheck disable=SC2016 # expands there
step_on_machine "$instance" "! $RSYNC_IS_GOOD || exit 0"'
echo "Installing rsync..."
as_root=()
(($(id -u) == 0)) || as_root=(sudo -n)
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y rsync >&2
'"$RSYNC_IS_GOOD" </dev/null ||
  die "instance $instance needs rsync 3.1 or later, which could not be installed; as root there: apt-get update; apt-get install -y rsync"
echo "Uploading code and configs..."
send_code "$instance" ${config:+"$config"}
if [[ -n $data && -d data ]]; then
  echo "Uploading data/..."
  send "$instance" data/ data/
elif [[ -n $data ]]; then
  note "no data/ here: nothing of it to upload"
fi
echo "Installing and checking..."
status=0
step_on_machine "$instance" "bash scripts/lib/setup_machine.sh ${config:+--config $(quote "$config")}" </dev/null || status=$?
case $status in
  0) echo "Instance $instance is ready" ;;
  1) answered=1; echo "Instance $instance: the lines marked FAIL stand in the way" ;;
  *) die "instance $instance could not be set up (status $status)" ;;
esac
exit "$status"
