# shellcheck shell=bash
# Runs on a machine, in the project's folder: a line for each lock that a supervisor or a training holds there, and who it
# is. The kernel holds a lock for as long as a process lives. Exit status 3: unknown.
command -v flock >/dev/null || { echo "flock (util-linux) is not installed there" >&2; exit 3; }
for lock in .run/lock models/*/.training.lock; do
  [[ -f $lock ]] || continue
  status=0
  flock -n -s -E 75 "$lock" true || status=$?
  ((status != 0)) || continue
  ((status == 75)) || exit 3 # its disk locks no files
  echo "$(head -c 200 "$lock" | head -n 1 | tr -cd "[:print:]"), which holds $lock"
done
