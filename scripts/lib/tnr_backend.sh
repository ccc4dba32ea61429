# shellcheck shell=bash
# Which of the three backends an instance belongs to: an entry of instances.json, or Thunder's CLI.

INSTANCES=$SOCRATES_ROOT/instances.json

# Whether a program is this one: itself, through a link, or a copy in another checkout (two would call each other).
is_our_tnr() {
  [[ $1 -ef ${BASH_SOURCE[-1]} ]] || head -c 300 -- "$1" 2>/dev/null | grep -qaF "# Summary: The guide's tnr commands"
}

# Thunder's CLI: the first `tnr` on the PATH that is not ours. Sets CLI, empty if there is none.
find_cli() {
  local folder folders
  CLI=''
  IFS=: read -r -a folders <<<"$PATH"
  for folder in "${folders[@]}"; do
    folder=${folder:-.}/tnr
    if [[ -f $folder && -x $folder ]] && ! is_our_tnr "$folder"; then
      CLI=$folder
      return
    fi
  done
}

# Whether a command of the CLI lists an option: `cli_knows OPTION SUBCOMMAND`.
cli_knows() {
  local help
  help=$("$CLI" "$2" --help 2>/dev/null </dev/null) || return 1
  grep -qE "(^|[[:space:],])$1([^A-Za-z0-9_-]|\$)" <<<"$help"
}

# Exactly `ssh` in its list of commands: `ssh-keys` is another.
cli_has_ssh() {
  local help
  help=$("$CLI" --help 2>/dev/null </dev/null) || return 1
  grep -qE '^[[:space:]]+ssh([[:space:]]|$)' <<<"$help"
}

python_for_json() {
  command -v python3 >/dev/null || die "needs python3 on the PATH to read $INSTANCES"
  python3 -I -S "$SOCRATES_ROOT/scripts/lib/tnr_instances.py" "$INSTANCES" "$@"
}

# An entry of instances.json. Sets ENTRY to (ssh HOST PORT IDENTITY OPTION...) or (local FOLDER); 1: no such entry.
read_entry() {
  local text status=0
  ENTRY=()
  [[ -e $INSTANCES ]] || return 1
  text=$(python_for_json show "$1") || status=$?
  case $status in
    0) mapfile -t ENTRY <<<"${text%$'\n'end}" ;;
    3) return 1 ;;
    *) exit 2 ;;
  esac
}

check_backend() {
  case ${SOCRATES_BACKEND:-} in
    '' | thunder | ssh | local) ;;
    *) die "SOCRATES_BACKEND is \"$SOCRATES_BACKEND\"; it can be thunder, ssh or local" ;;
  esac
}

# What is remembered between calls.
cache_file() {
  printf '%s/socrates/%s' "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}" "$1"
}

make_empty() {
  mkdir -p -- "${1%/*}" 2>/dev/null && : 2>/dev/null >"$1" || true
}

die_no_backend() {
  die "$1. There are three ways to have a machine:
  Thunder: install its CLI, tnr, and put it on the PATH
  ssh:     name any host in $INSTANCES, for example {\"0\": {\"host\": \"user@1.2.3.4\"}}
  local:   SOCRATES_BACKEND=local tnr create makes a folder of this machine an instance"
}

# Sets BACKEND, and ENTRY (ssh, local) or CLI (thunder).
choose_backend() {
  local id=$1
  check_backend
  check_instance_id "$id"
  BACKEND=${SOCRATES_BACKEND:-}
  if [[ $BACKEND != thunder ]] && read_entry "$id"; then
    [[ -z $BACKEND || $BACKEND == "${ENTRY[0]}" ]] ||
      die "instance $id is of the backend ${ENTRY[0]} in $INSTANCES, but SOCRATES_BACKEND=$BACKEND"
    BACKEND=${ENTRY[0]}
    return
  fi
  case $BACKEND in
    ssh) die "instance $id: not in $INSTANCES; add it: {\"$id\": {\"host\": \"user@1.2.3.4\"}}" ;;
    local) die "instance $id: not in $INSTANCES; tnr create makes one" ;;
  esac
  find_cli
  [[ -n $CLI ]] || die_no_backend "instance $id: not in $INSTANCES, and Thunder's tnr is not on the PATH"
  BACKEND=thunder
}

# A CLI that has `ssh` itself is called as it is, with every line but those about an entry of instances.json;
# only `delete` asks first whether checkpoints would be lost.
hand_over_to_cli_with_ssh() {
  local word arguments=()
  check_backend
  [[ ${SOCRATES_BACKEND:-thunder} == thunder ]] || return 0
  find_cli
  [[ -n $CLI ]] || return 0
  if [[ -z ${SOCRATES_BACKEND:-} && -e $INSTANCES ]]; then
    case $1 in
      status) return 0 ;;
      ssh | delete) word=${2:-} ;;
      scp) word=$(copied_instance "${@:2}") ;;
      *) word='' ;;
    esac
    if [[ $word =~ ^$ID_PATTERN$ ]] && read_entry "$word"; then return 0; fi
  fi
  cli_has_ssh || return 0
  if [[ $1 == delete ]]; then
    read_delete_arguments "${@:2}"
    [[ -n $FORCE ]] || guard_checkpoints "$DELETED_ID"
    for word in "${@:2}"; do [[ $word == --force ]] || arguments+=("$word"); done
    exec "$CLI" delete "${arguments[@]}"
  fi
  exec "$CLI" "$@"
}
