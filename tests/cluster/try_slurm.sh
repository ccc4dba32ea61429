#!/usr/bin/env bash
# Summary: Try examples/cluster/slurm.sbatch with a real Slurm of one node, on this machine: two tasks, on CPUs.
# Usage: tests/cluster/try_slurm.sh [--keep]
#
# As root, with Debian's packages: apt-get install --no-install-recommends slurm-wlm slurmd slurmctld munge
# One job trains undisturbed. Another is asked to end, as Slurm does it before the time limit, goes back into the queue by
# itself, is requeued by force while it trains, and goes on again: it must end with the same adapter, byte for byte.
#   --keep   leave the folder, and print its name
# Exit status: 0 so it was, 1 it was not, 2 it could not be tried.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
keep=''
case ${1:-} in
  -h | --help) usage; exit 0 ;;
  --keep) keep=1 ;;
  '') ;;
  *) die_unknown "$1" ;;
esac
((EUID == 0)) || die "needs root, for slurmd"
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || die "$program is not installed: see --help"
done
find_environment

folder=$(mktemp -d)
leave() {
  local status=$? pid
  for pid in "$folder"/{slurmctld,slurmd,munged}.pid; do
    [[ ! -s $pid ]] || kill "$(<"$pid")" || true
  done
  if [[ -n $keep ]]; then note "left: $folder"; else rm -rf -- "$folder"; fi
  exit "$status"
}
trap leave EXIT

start_slurm() {
  mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
  chmod 755 "$folder"
  chown munge "$folder/munge"
  host=$(hostname -s)
  export SLURM_CONF=$folder/slurm.conf
  cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=20
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
JobRequeue=1
KillWait=1
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES State=UP
CONF
  runuser -u munge -- munged --socket "$folder/munge/socket" --pid-file "$folder/munge/munged.pid" \
    --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
  ln -s munge/munged.pid "$folder/munged.pid"
  slurmctld
  slurmd
  wait_for 60 "the node to be idle" node_is_idle
}

node_is_idle() { [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; }

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@"; do
    ((SECONDS < end)) || fail "waited $seconds s for $what"
    sleep 0.2
  done
}

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  tail -n 40 "$folder"/*/socrates-*.log >&2 || true
  exit 1
}

# submit NAME: a copy of the project with its own job; sets `job` and `log`.
submit() {
  cp -r "$folder/project" "$folder/$1"
  cd "$folder/$1"
  job=$(sbatch --parsable --gres=none --cpus-per-task=1 --ntasks-per-node=2 examples/cluster/slurm.sbatch config.json)
  log=$folder/$1/socrates-$job.log
  note "job $job, $1"
}

logged() { grep -qE "$1" "$log" 2>/dev/null; }
is_over() { [[ $(scontrol show job "$job" --oneliner) == *JobState=COMPLETED* ]]; }
restarts() { [[ $(scontrol show job "$job" --oneliner) =~ Restarts=([0-9]+) ]] && printf %s "${BASH_REMATCH[1]}"; }
adapter() { sha256sum <"models/run/checkpoint-$steps/adapter_model.safetensors"; }

steps=300
SECONDS=0
start_slurm
note "Slurm runs after $SECONDS s"
PYTHONPATH=$SOCRATES_ROOT:$SOCRATES_ROOT/tests "$PYTHON" - "$folder/project" $steps <<'PYTHON'
import sys
from pathlib import Path

from processes import training_folder

steps = int(sys.argv[2])
training_folder(Path(sys.argv[1]), steps=steps, save_steps=steps // 3, training={"logging_steps": 1})
PYTHON
ln -s "$SOCRATES_ROOT"/{examples,scripts} "$folder/project"
[[ -f ${PYTHON%/bin/*}/bin/activate ]] || die "$PYTHON is not of a virtual environment"
export VENV=${PYTHON%/bin/*} MODULES='' DS_ACCELERATOR=cpu ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41
note "project made after $SECONDS s"

submit undisturbed
wait_for 300 "the undisturbed job" is_over
expected=$(adapter)
note "undisturbed: over after $SECONDS s"

submit requeued
wait_for 200 "step 30" logged "'step': 30}"
scancel --batch --signal=USR1 "$job" # what --signal=B:USR1@600 makes Slurm send
wait_for 60 "the clean stop" logged "^Stopped at step"
note "$(grep "^Stopped at step" "$log")"
wait_for 200 "the resumption" logged "^Resuming from .*/checkpoint-[3-9]"
note "$(grep "^Resuming from" "$log") (restarts: $(restarts), after $SECONDS s)"
wait_for 200 "step 220" logged "'step': 220}"
scontrol requeue "$job"
wait_for 200 "the second resumption" logged "^Resuming from .*/checkpoint-2"
note "$(grep "^Resuming from" "$log" | tail -n 1) (restarts: $(restarts), after $SECONDS s)"
wait_for 200 "the requeued job" is_over
logged "^Training complete: $steps steps" || fail "the requeued job did not end its training"
[[ $(restarts) == 2 ]] || fail "$(restarts) restarts, not 2"
[[ $(adapter) == "$expected" ]] || fail "the requeued job ended with another adapter"
echo "Passed in $SECONDS s: requeued twice, $steps steps, the same adapter as undisturbed"
