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
