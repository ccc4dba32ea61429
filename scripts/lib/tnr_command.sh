# shellcheck shell=bash
# `tnr ssh`: a command, a script or a shell on the machine.

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

# Whether a command holds one of our tokens, or what looks like one of Hugging Face.
holds_token() {
  local token
  for token in "${HF_TOKEN:-}" "${TNR_API_TOKEN:-}"; do
    [[ -z $token || $1 != *"$token"* ]] || return 0
  done
  [[ $1 =~ hf_[A-Za-z0-9]{16} ]]
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
    exec "$BASH" "$0" ssh --command-on-stdin "$id" < <(printf '%s%s' "$command" "$END_OF_COMMAND")
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
