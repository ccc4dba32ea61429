# shellcheck shell=bash
# shellcheck disable=SC2034 # ANSWER and RSYNC_HERE: tnr_copy.sh
# Copying with rsync over the transport: whether both sides have it, and what its failures mean.

# Prints the version, as 3.2, or "none"; runs there, too.
rsync_version() {
  local text
  command -v rsync >/dev/null || { echo none; return; }
  text=$(rsync --version 2>/dev/null) || true
  if [[ $text =~ ^rsync\ +version\ v?([0-9]+\.[0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo unknown; fi
}

# Version 3.1 at least: the one that comes with macOS lacks options.
is_good_rsync() {
  [[ $1 =~ ^([4-9]|3\.[1-9]) ]]
}

# Sets RSYNC_HERE.
check_rsync_here() {
  RSYNC_HERE=$(rsync_version)
  is_good_rsync "$RSYNC_HERE" ||
    die "needs rsync 3.1 or later here (found: $RSYNC_HERE): sudo apt-get install -y rsync (macOS: brew install rsync)"
}

die_without_rsync() {
  die "$PLACE needs rsync 3.1 or later (found: $1): ./run_remote_setup.sh $ID installs it, or tnr ssh $ID 'sudo apt-get update; sudo apt-get install -y rsync'"
}

# Asks the machine: `ask STUB ARGUMENT...`. Sets ANSWER. What a login prints around the answer is ignored.
ask() {
  local line version
  line=$(bash_line "$(declare -f rsync_version)$1" "${@:2}") STATUS=0
  run_there "$line" </dev/null >"$WORK/answer"
  ((STATUS != NOT_REACHED)) || exit "$NOT_REACHED"
  line=$(grep -a '^tnr-answer ' "$WORK/answer" | tail -n 1) || fail_copy "$PLACE: gave no answer; is bash there, and room in ${TMPDIR:-/tmp} here?"
  read -r _ ANSWER version <<<"$line"
  [[ $version =~ ^(none|[0-9]{1,4}\.[0-9]{1,4})$ ]] || version=unknown
  is_good_rsync "$version" || die_without_rsync "$version"
  make_empty "$(rsync_memory)"
}

# That the machine has rsync is known for a day, which saves a connection each time.
rsync_memory() {
  cache_file "rsync-3.1-$(cksum <<<"$PLACE" | tr ' ' -)"
}

is_known_to_have_rsync() {
  [[ $BACKEND == local || -n $(find "$(rsync_memory)" -mmin -1440 2>/dev/null) ]]
}

# A word of rsync's -e, which has quotes but no backslash.
quote_for_rsync() {
  printf "'%s' " "${1//\'/\'\'}"
}

# Runs rsync over the transport, in a folder there (quoted for a shell). Leaves with 254, 2 or 1 if it fails.
run_rsync() {
  local folder=$1 shell='' word reason status=0 options=(-rt --partial-dir=.rsync-partial)
  shift
  for word in bash "$SOCRATES_ROOT/scripts/lib/tnr_rsh.sh" "$WORK/transport" "$folder" "${#TRANSPORT[@]}" "${TRANSPORT[@]}"; do
    shell+=$(quote_for_rsync "$word")" "
  done
  # ssh bounds the connecting (ConnectTimeout) and the session (ServerAlive), but not the login between the two.
  options+=(--timeout="${TNR_STALL_SECONDS:-120}")
  [[ ! -t 2 ]] || options+=(--info=progress2)
  rm -f -- "$WORK/transport"
  if [[ -t 2 ]]; then
    rsync "${options[@]}" -e "$shell" "$@" </dev/null >&2 || status=$?
  else
    rsync "${options[@]}" -e "$shell" "$@" </dev/null >"$WORK/rsync.log" 2>&1 || status=$?
    cat "$WORK/rsync.log" >&2
  fi
  case $status in
    0) show_ssh_messages; return 0 ;;
    20) exit 130 ;;
    10 | 12 | 16 | 19 | 21 | 30 | 35 | 1[2-9][0-9] | 255) status=$(transport_status "$status") ;;
  esac
  if ((status == 127)); then
    rm -f -- "$(rsync_memory)"
    die_without_rsync none
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
