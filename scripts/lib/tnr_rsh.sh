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
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/tnr_mark.sh"
status_file=$1 enter=$2 count=$3
shift 3
transport=("${@:1:count}")
shift "$count"
shift # the placeholder
: >"$status_file"
status=0
# Not to rsync's own output, to which a greeting would be a broken protocol.
exec {output}> >(after_mark)
"${transport[@]}" "$(bash_line "$enter && $*")" >&"$output" {output}>&- || status=$?
exec {output}>&-
wait "$!" || (($? != UNMARKED || status == 255)) || status=$UNMARKED
printf '%s\n' "$status" >"$status_file"
exit "$status"
