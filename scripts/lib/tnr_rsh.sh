#!/usr/bin/env bash
# Summary: The remote shell that rsync is given: enters a folder there, and notes how the connection ended.
# Usage: bash scripts/lib/tnr_rsh.sh STATUS_FILE ENTER COUNT TRANSPORT... HOST WORD...
#
# rsync's own status does not tell a lost connection from a failure there. STATUS_FILE is made at the start and holds
# the transport's status at the end. HOST is a placeholder: TRANSPORT (COUNT words) knows where to go. ENTER is run by
# the shell there, before rsync: it makes and enters the folder, in whose name rsync itself would take wildcards for
# patterns, or leaves with 127 where no good rsync is.
# Exit status: the transport's.
set -euo pipefail
status_file=$1 enter=$2 count=$3
shift 3
transport=("${@:1:count}")
shift "$count"
shift # the placeholder
: >"$status_file"
status=0
"${transport[@]}" "$enter && $*" || status=$?
printf '%s\n' "$status" >"$status_file"
exit "$status"
