# shellcheck shell=bash
# How a shell line gets to a machine: TRANSPORT is the command to which it is given as the last argument.
# ssh's own 255, and a connection that is lost, become 254; the machine's 254 and 255 both arrive as 254 (the stubs in
# `tnr ssh` see to that), which is reported as 255.

readonly NOT_REACHED=254
BACKEND='' # until choose_backend

# Ended by a signal, bash would leave its ssh or rsync running.
leave_nothing() {
  pkill -P "$$" 2>/dev/null || true
  rm -rf -- "$WORK"
}

# A folder for this call's own notes, gone when it ends.
make_work_folder() {
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/tnr.XXXXXXXX") || die "cannot make a temporary folder in ${TMPDIR:-/tmp}"
  trap leave_nothing EXIT
}

# Sets TRANSPORT, PLACE (for messages) and HINT; `set_transport ID [terminal]`.
set_transport() {
  local id=$1 terminal=${2:-}
  [[ -n $BACKEND ]] || choose_backend "$id"
  make_work_folder
  [[ -z $terminal && $BACKEND != local ]] || MARKED=''
  PLACE="instance $id" HINT=''
  case $BACKEND in
    local)
      PLACE+=" (${ENTRY[1]})"
      TRANSPORT=("$BASH" -p "$SOCRATES_ROOT/scripts/lib/tnr_enter.sh" "$SOCRATES_ROOT" "${ENTRY[1]}")
      ;;
    ssh)
      PLACE+=" (${ENTRY[1]}${ENTRY[2]:+ port ${ENTRY[2]}})"
      set_ssh_transport "$terminal" "${ENTRY[@]:1}"
      ;;
    thunder)
      know_thunder_host "$id"
      HINT="; if it was made anew, run: tnr connect $id"
      set_ssh_transport "$terminal" "tnr-$id" '' ''
      ;;
  esac
  # From here on no program needs them; an ssh configuration may send them along (SendEnv).
  export -n HF_TOKEN HUGGING_FACE_HUB_TOKEN TNR_API_TOKEN
}

# ssh takes the first value it is given for an option, so those of instances.json come first.
set_ssh_transport() {
  local terminal=$1 host=$2 port=$3 identity=$4 option
  shift 4
  command -v ssh >/dev/null || die "needs ssh on the PATH"
  TRANSPORT=(ssh)
  for option in "$@"; do TRANSPORT+=(-o "$option"); done
  # Connections of their own: a shared one would outlive its first user, and hide how a command ended.
  TRANSPORT+=(-o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ControlMaster=no -o ControlPath=none)
  # Nor does a machine get the use of the laptop's keys, screen and ports, or run other than what it is told.
  TRANSPORT+=(-o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o Tunnel=no -o PermitLocalCommand=no
    -o RemoteCommand=none -o RequestTTY=no -k)
  [[ -t 0 ]] || TRANSPORT+=(-o BatchMode=yes)
  # A rented machine's key is new each time; a known machine's changed key is still refused.
  if [[ $BACKEND == thunder && $(ssh -G "$host" 2>/dev/null) == *"stricthostkeychecking ask"* ]]; then
    TRANSPORT+=(-o StrictHostKeyChecking=accept-new)
  fi
  [[ -z $port ]] || TRANSPORT+=(-p "$port")
  [[ -z $identity ]] || TRANSPORT+=(-i "$identity" -o IdentitiesOnly=yes)
  # In a file, ssh's own messages stay apart from those of the machine's command.
  if [[ -n $terminal ]]; then TRANSPORT+=(-t); else TRANSPORT+=(-E "$WORK/ssh.log"); fi
  TRANSPORT+=("$host")
}

# Runs a line on the machine and leaves its status in STATUS, 254 for "not reached".
run_there() {
  local messages output=1 filter='' mark=0
  STATUS=0
  # A process that a signal ended leaves the status of a command that a signal ended. Bash says which: on its own
  # standard error, kept apart here from that of the command.
  if [[ -n $MARKED ]]; then
    exec {output}> >(after_mark)
    filter=$!
  fi
  exec {messages}>&2 2>"$WORK/signal"
  "${TRANSPORT[@]}" "$1" >&"$output" 2>&"$messages" {messages}>&- || STATUS=$?
  exec 2>&"$messages" {messages}>&-
  [[ ! -s $WORK/signal ]] || STATUS=255
  if [[ -n $filter ]]; then
    exec {output}>&-
    wait "$filter" || mark=$?
  fi
  case $STATUS in
    254) STATUS=255; show_ssh_messages ;;
    255) STATUS=$NOT_REACHED; say_not_reached ;;
    *)
      show_ssh_messages
      ((mark != UNMARKED)) || die_unmarked
      ;;
  esac
}

show_ssh_messages() {
  [[ ! -s $WORK/ssh.log ]] || grep -v '^Warning: Permanently added' "$WORK/ssh.log" >&2 || true
}

# The last line is the one that a monitor repeats: it holds the reason.
say_not_reached() {
  local reason=''
  if [[ -s $WORK/ssh.log ]]; then
    sed '$d' "$WORK/ssh.log" >&2
    reason=": $(tail -n 1 "$WORK/ssh.log" | tr -d '\r')"
  fi
  note "tnr: $PLACE cannot be reached, or the connection was lost$reason$HINT"
}

# --- tnr ssh: a command, a script or a shell on the machine -----------------------------------------------------------

# What runs there. $1 is `argument` (the command is $2) or `stdin` (it is read from standard input, up to END_OF_COMMAND: half
# a command, from a connection that broke, must not be run).
# A command that ends in `&` leaves a shell behind that holds its output open, for which ssh would wait for days: it
# gets pipes whose readers stop passing on once the command itself has ended, and then swallow what still comes.
# shellcheck disable=SC2016 # expanded there
readonly STUB_COMMAND='
run() { bash -c -- "$command"; }
command=${2-} last="
# end of command"
if [ "$1" = stdin ]; then
  command=$(cat)
  case $command in
    *"$last") command=${command%"$last"} ;;
    *) echo "tnr: the connection broke before the whole command had arrived: nothing was run" >&2; exit 254 ;;
  esac
  run() { bash -c '\''eval "$(cat)" </dev/null'\'' < <(printf %s "$command"); }
fi
relay() {
  sed -un "/$end\$/{s/$end\$//;/./p;q};p"
  exec cat >/dev/null 2>&1
}
trimmed=${command%"${command##*[![:space:]]}"}
case $trimmed in
  *"&")
    end=tnr-end-$$-$RANDOM$RANDOM
    exec 3>&1 4>&2
    exec 5> >(relay >&3 3>&- 4>&-)
    exec 6> >(relay >&4 3>&- 4>&- 5>&-)
    run >&5 2>&6 3>&- 4>&- 5>&- 6>&-; s=$?
    echo "$end" >&5; echo "$end" >&6 ;;
  *) run; s=$? ;;
esac
case $s in 255) s=254 ;; esac
exit "$s"'
readonly END_OF_COMMAND=$'\n# end of command'
# shellcheck disable=SC2016
readonly STUB_SCRIPT='bash -s; s=$?; case $s in 255) s=254 ;; esac; exit "$s"'
# shellcheck disable=SC2016
readonly STUB_LOGIN='"${SHELL:-bash}" -l; s=$?; case $s in 255) s=254 ;; esac; exit "$s"'
# shellcheck disable=SC2016 # /etc/profile would undo the PATH that the instance was given
readonly STUB_SHELL='bash -i; s=$?; case $s in 255) s=254 ;; esac; exit "$s"'

# Whether a command holds one of our tokens, what looks like one of Hugging Face, or `export SOME_KEY=...`.
holds_token() {
  local token
  for token in "${HF_TOKEN:-}" "${TNR_API_TOKEN:-}"; do
    [[ -z $token || $1 != *"$token"* ]] || return 0
  done
  [[ $1 =~ hf_[A-Za-z0-9]{16} || $1 =~ (TOKEN|KEY|SECRET|PASSWORD)=[\"\']?[^\"\'\$[:space:]] ]]
}

tnr_ssh() {
  local on_stdin='' id command
  # Ours alone: this very command again, without the token among its arguments.
  if [[ ${1:-} == --command-on-stdin ]]; then on_stdin=1; shift; fi
  (($#)) || die_usage "ssh needs an instance ID"
  [[ $1 != -* ]] || die_usage "ssh: unknown option: $1"
  id=$1
  shift
  [[ ${1:-} != -- ]] || shift
  [[ ${1:-} != -* ]] || die_usage "ssh: unknown option: $1"
  command="$*" # several words are joined, as ssh does
  if (($#)) && holds_token "$command"; then
    check_instance_id "$id"
    exec "$BASH" -p "$0" ssh --command-on-stdin "$id" < <(printf '%s%s' "$command" "$END_OF_COMMAND")
  fi
  if [[ -n $on_stdin ]]; then
    set_transport "$id"
    run_there "$(bash_line "$STUB_COMMAND" stdin)"
  elif (($#)); then
    set_transport "$id"
    run_there "$(bash_line "$STUB_COMMAND" argument "$command")"
  elif [[ -t 0 ]]; then
    set_transport "$id" terminal
    if [[ $BACKEND == local ]]; then run_there "$(bash_line "$STUB_SHELL")"; else run_there "$(bash_line "$STUB_LOGIN")"; fi
  else
    set_transport "$id"
    run_there "$(bash_line "$STUB_SCRIPT")"
  fi
  exit "$STATUS"
}
