# shellcheck shell=bash
# `tnr create`, `tnr status` and `tnr delete`.

tnr_create() {
  check_backend
  case ${SOCRATES_BACKEND:-thunder} in
    local) create_here "$@" ;;
    ssh) die "create: a machine behind ssh is rented elsewhere; add it to $INSTANCES then" ;;
    thunder)
      find_cli
      [[ -n $CLI ]] || die_no_backend "create: Thunder's tnr is not on the PATH"
      create_on_thunder "$@"
      ;;
  esac
}

# A folder of this machine; the number it got is printed.
create_here() {
  local id
  id=$(python_for_json create) || exit 2
  note "tnr: made instance $id: $SOCRATES_ROOT/instances/$id${*:+; it has what this machine has, not used: $*}"
  printf '%s\n' "$id"
}

tnr_status() {
  local options=() shown=''
  check_backend
  if [[ ${SOCRATES_BACKEND:-} != thunder && -e $INSTANCES ]]; then
    list_instances
    shown=1
  fi
  find_cli
  if [[ -n $CLI && ${SOCRATES_BACKEND:-thunder} == thunder ]]; then
    # Without it, the table may be drawn again for ever.
    [[ " $* " == *" --no-wait "* ]] || ! cli_knows --no-wait status || options+=(--no-wait)
    exec "$CLI" status "$@" "${options[@]}"
  fi
  [[ -n $shown ]] || die_no_backend "status: no instance is known"
}

list_instances() {
  local rows id kind place
  rows=$(python_for_json list) || exit 2
  printf '%-12s %-8s %s\n' ID BACKEND WHERE
  while IFS=$'\t' read -r id kind place; do
    [[ -z $id || ${SOCRATES_BACKEND:-$kind} != "$kind" ]] || printf '%-12s %-8s %s\n' "$id" "$kind" "$place"
  done <<<"$rows"
}

tnr_delete() {
  local id='' force='' yes=''
  while (($#)); do
    case $1 in
      -y | --yes) yes=1 ;;
      --force) force=1 ;;
      -*) die_usage "delete: unknown option: $1" ;;
      *)
        [[ -z $id ]] || die_usage "delete: one instance at a time, not also $1"
        id=$1
        ;;
    esac
    shift
  done
  [[ -n $id ]] || die_usage "delete needs an instance ID"
  choose_backend "$id"
  [[ $BACKEND != ssh ]] ||
    die "instance $id: a machine behind ssh is rented elsewhere; end it there, then remove it from $INSTANCES"
  # What is no longer there cannot be lost.
  [[ -n $force || ($BACKEND == local && ! -e ${ENTRY[1]}) ]] || guard_checkpoints "$id"
  if [[ $BACKEND == local ]]; then
    python_for_json remove "$id" || exit 2
    note "tnr: deleted instance $id"
  else
    delete_on_thunder "$id" "$yes$force"
  fi
}

# Leaves with 1 where the machine holds checkpoints that are not here or a training runs, with 2 where nobody can tell.
guard_checkpoints() {
  local id=$1 program=$SOCRATES_ROOT/scripts/monitor_checkpoints.sh missing status=0
  [[ -x $program ]] || die "delete: cannot tell whether checkpoints would be lost: $program is not there; to delete whatever is lost: tnr delete $id --force"
  missing=$("$program" "$id" --missing </dev/null) || status=$?
  case $status in
    0) return ;;
    1)
      note "tnr: not deleted. Instance $id still holds what is not here:"
      note "$missing"
      note "Fetch it first: ./scripts/monitor_checkpoints.sh $id --once. To delete it all the same: tnr delete $id --force"
      exit 1
      ;;
    130) exit 130 ;;
    *) die "delete: cannot tell whether instance $id holds checkpoints that are not here; to delete whatever is lost: tnr delete $id --force" ;;
  esac
}
