"""The one command that asks a training machine how it stands.

Covers: supervisor, locks, progress, training logs, checkpoints, configs, the ends of the text logs, GPUs and disk; a
file of any size costs at most some KB; nothing is changed there. The machine needs bash and coreutils; locks need
flock (util-linux). Does not cover: reading the answer (`facts.py`).
"""

from socrates.remote.instance import REMOTE_ROOT
from socrates.remote.untrusted import FINISH, PRELUDE

_BODY = r"""
name='^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
date '+%s.%N' | give clock 100
date '+%F %T %Z' | give date 100
{ cat /proc/sys/kernel/random/boot_id 2>/dev/null; } | give boot 100
(cd /proc && printf '%s ' [0-9]*) 2>/dev/null | give pids 1000000
if command -v nvidia-smi >/dev/null; then
  timeout 15 nvidia-smi --query-gpu=index,utilization.gpu,memory.used,memory.total,name --format=csv,noheader,nounits \
    2>&1 </dev/null | give gpus 20000
fi
if cd "$ROOT" 2>/dev/null; then
  { df -PB1 models/. 2>/dev/null || df -PB1 .; } | tail -n 1 | give disk 1000
  [[ ! -f .run/state.json ]] || give state 400000 <.run/state.json
  for lock in .run/lock models/*/.training.lock; do
    [[ -f $lock ]] || continue
    held=1
    { ! command -v flock >/dev/null || { flock -n -s -E 75 9; held=$?; }; } 9<"$lock"
    { printf '%s ' "$held"; head -n 1 "$lock"; } 2>/dev/null | give "lock $lock" 300
  done
  count=0
  for file in *.json; do
    [[ $file =~ $name && -f $file ]] && ((++count <= 40)) && give "config $file" 65536 <"$file"
  done
  count=0
  for file in *.log; do
    [[ $file =~ $name && -f $file ]] && ((++count <= 20)) || continue
    stat -L -c '%Y' -- "$file" | give "changed $file" 100
    tail -c 8192 -- "$file" | give "log $file" 8192
  done
  count=0
  for folder in models/*/; do
    run=${folder#models/} run=${run%/}
    [[ $run =~ $name ]] || continue
    newest=-1 steps=''
    for manifest in "$folder"checkpoint-*/manifest.json; do
      step=${manifest%/manifest.json} step=${step##*/checkpoint-}
      [[ $step =~ ^(0|[1-9][0-9]{0,11})$ && -f $manifest ]] || continue
      steps+=" $step"
      ((step <= newest)) || newest=$step
    done
    files=0
    for file in .progress.json training_log.jsonl .training.lock; do [[ ! -f $folder$file ]] || files=1; done
    [[ $newest != -1 || $files == 1 ]] && ((++count <= 30)) || continue
    give "steps $run" 1000000 <<<"$steps"
    [[ ! -f ${folder}.progress.json ]] || give "progress $run" 16384 <"${folder}.progress.json"
    if [[ -f ${folder}training_log.jsonl ]]; then
      head -n 1 "${folder}training_log.jsonl" | give "first $run" 8192
      tail -c 65536 "${folder}training_log.jsonl" | give "lines $run" 65536
    fi
    file=${folder}checkpoint-$newest/training_config.json
    [[ ! -f $file ]] || give "trained $run" 65536 <"$file"
  done
else
  echo no | give absent 10
fi
"""
GATHER = f"ROOT={REMOTE_ROOT}\n{PRELUDE}{_BODY}{FINISH}"
