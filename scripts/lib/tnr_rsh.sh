#!/usr/bin/env bash
# Summary: The remote shell that rsync is given: enters a folder there, and notes how the connection ended.
# Usage: bash scripts/lib/tnr_rsh.sh STATUS_FILE FOLDER COUNT TRANSPORT... HOST WORD...
#
# rsync's own status does not tell a lost connection from a failure there. STATUS_FILE is made at the start and holds
# the transport's status at the end. HOST is a placeholder: TRANSPORT (COUNT words) knows where to go. FOLDER, quoted for
# a shell, is made and entered by the shell there: rsync itself would take wildcards in it for patterns.
# Exit status: the transport's; 127 where rsync is missing there, or older than 3.1.
set -euo pipefail
status_file=$1 folder=$2 count=$3
shift 3
transport=("${@:1:count}")
shift "$count"
shift # the placeholder
: >"$status_file"
status=0
is_good="rsync --version 2>/dev/null | head -n 1 | grep -qE '^rsync +version v?([4-9]|[1-9][0-9]|3\.[1-9])'"
"${transport[@]}" "$is_good || exit 127; mkdir -p -- $folder && cd -- $folder && $*" || status=$?
printf '%s\n' "$status" >"$status_file"
exit "$status"
