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
  local ignored=() id
  while (($#)); do
    case $1 in
      --*=*) ignored+=("${1%%=*} ${1#*=}") ;;
      --*) need_value "$@"; ignored+=("$1 $2"); shift ;;
      *) die_usage "create: unknown argument: $1" ;;
    esac
    shift
  done
  id=$(python_for_json create) || exit 2
  ((${#ignored[@]} == 0)) || note "tnr: a folder of this machine has what this machine has; not used: $(printf '%s, ' "${ignored[@]}" | sed 's/, $//')"
  note "tnr: made instance $id: $SOCRATES_ROOT/instances/$id"
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
  local rows id kind place state
  rows=$(python_for_json list) || exit 2
  make_work_folder
  printf '%-12s %-8s %-40s %s\n' ID BACKEND WHERE STATE
  while IFS=$'\t' read -r id kind place; do
    [[ -n $id && ${SOCRATES_BACKEND:-$kind} == "$kind" ]] || continue
    state=running
    if [[ $kind == local ]]; then
      [[ -d $place/home ]] || state="gone: no such folder"
    else
      is_reached "$id" || state="not reached"
    fi
    printf '%-12s %-8s %-40s %s\n' "$id" "$kind" "$place" "$state"
  done <<<"$rows"
}

is_reached() {
  read_entry "$1"
  BACKEND=ssh
  set_ssh_transport '' "${ENTRY[@]:1}"
  ssh -o ConnectTimeout=5 -o BatchMode=yes "${TRANSPORT[@]:1}" true </dev/null >/dev/null 2>&1
}

# Sets DELETED_ID, YES and FORCE.
# shellcheck disable=SC2034 # YES: delete_on_thunder
read_delete_arguments() {
  DELETED_ID='' YES='' FORCE=''
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      -y | --yes) YES=1 ;;
      --force) FORCE=1 ;;
      -*) die_usage "delete: unknown option: $1" ;;
      *)
        [[ -z $DELETED_ID ]] || die_usage "delete: one instance at a time, not also $1"
        DELETED_ID=$1
        ;;
    esac
    shift
  done
  [[ -n $DELETED_ID ]] || die_usage "delete needs an instance ID"
  check_instance_id "$DELETED_ID"
}

tnr_delete() {
  read_delete_arguments "$@"
  choose_backend "$DELETED_ID"
  case $BACKEND in
    ssh) die "instance $DELETED_ID: a machine behind ssh is rented elsewhere; end it there, then remove it from $INSTANCES" ;;
    local) delete_here ;;
    thunder)
      [[ -n $FORCE ]] || guard_checkpoints "$DELETED_ID"
      delete_on_thunder
      ;;
  esac
}

delete_here() {
  # What is no longer there cannot be lost.
  [[ -n $FORCE || ! -e ${ENTRY[1]} ]] || guard_checkpoints "$DELETED_ID"
  python_for_json remove "$DELETED_ID" || exit 2
  note "tnr: deleted instance $DELETED_ID"
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
