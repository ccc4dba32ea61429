# shellcheck shell=bash
# Copying with rsync over the transport: whether both sides have it, and what its failures mean.

# Whether there is an rsync of 3.1 or later (the one that comes with macOS lacks options); for any POSIX shell, here or there.
RSYNC_IS_GOOD="rsync --version 2>/dev/null | sed -n 1p | grep -qE '^rsync +version v?([4-9]|3[.][1-9])'"

check_rsync_here() {
  eval "$RSYNC_IS_GOOD" || die "needs rsync 3.1 or later here: sudo apt-get install -y rsync (macOS: brew install rsync)"
}

# A word of rsync's -e, which has quotes but no backslash.
quote_for_rsync() {
  printf "'%s' " "${1//\'/\'\'}"
}

# Runs rsync over the transport, in a folder there (quoted for a shell). Leaves with 254, 2 or 1 if it fails.
run_rsync() {
  local enter="$RSYNC_IS_GOOD || exit 127; mkdir -p -- $1 && cd -- $1" shell='' word reason status=0 log log_writer tries
  local options=(-rt --partial-dir=.rsync-partial --blocking-io) # tnr_rsh.sh puts a cat between
  shift
  for word in "$BASH" -p "$SOCRATES_ROOT/scripts/lib/tnr_rsh.sh" "$WORK/transport" "$enter" "${#TRANSPORT[@]}" "${TRANSPORT[@]}"; do
    shell+=$(quote_for_rsync "$word")" "
  done
  # ssh bounds the connecting (ConnectTimeout) and the session (ServerAlive), but not the login between the two.
  options+=(--timeout="${TNR_STALL_SECONDS:-120}")
  [[ ! -t 2 ]] || options+=(--info=progress2)
  rm -f -- "$WORK/transport"
  if [[ -t 2 ]]; then
    rsync "${options[@]}" -e "$shell" "$@" </dev/null >&2 || status=$?
  else
    exec {log}> >(exec head -c 1048576 >"$WORK/rsync.log") # a machine may say things without end
    log_writer=$!
    rsync "${options[@]}" -e "$shell" "$@" </dev/null >&"$log" 2>&1 {log}>&- || status=$?
    exec {log}>&-
    # Not `wait`: an ssh that rsync has left behind may hold it for long.
    for ((tries = 0; tries < 50; tries++)); do
      kill -0 "$log_writer" 2>/dev/null || break
      sleep 0.1
    done
    cat "$WORK/rsync.log" >&2
  fi
  case $status in
    0) show_ssh_messages; return 0 ;;
    20) exit 130 ;;
    10 | 12 | 16 | 19 | 21 | 30 | 35 | 1[2-9][0-9] | 255) status=$(transport_status "$status") ;;
  esac
  if ((status == UNMARKED)); then
    die_unmarked
  elif ((status == 127)); then
    die "$PLACE needs rsync 3.1 or later: ./run_remote_setup.sh $ID installs it, or tnr ssh $ID 'sudo apt-get update; sudo apt-get install -y rsync'"
  elif ((status > 128)); then # ssh's 255, or a signal that ended it
    say_not_reached
    exit "$NOT_REACHED"
  fi
  show_ssh_messages
  # rsync's first error is the cause, and its last line only a number: a program that repeats the last line gets the cause.
  reason=$(grep -a -m 1 -E '^(rsync|mkdir|([a-z/]*/)?(ba|da|z|fi)?sh): ' "$WORK/rsync.log" 2>/dev/null) && fail_copy "$PLACE: not copied: ${reason#rsync: }"
  exit "$NOT_COPIED"
}

# How the connection ended under an rsync that gave up with a status: it may end a moment later than rsync. Without
# an answer it is lost; where rsync did not come to connect, its own status stands.
transport_status() {
  local tries
  if [[ ! -e $WORK/transport ]]; then
    printf '%s' "$(($1 > 126 ? 1 : $1))"
    return
  fi
  for ((tries = 0; tries < 50; tries++)); do
    [[ ! -s $WORK/transport ]] || break
    sleep 0.1
  done
  if [[ -s $WORK/transport ]]; then cat "$WORK/transport"; else printf 255; fi
}
