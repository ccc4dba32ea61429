# shellcheck shell=bash
# `tnr scp`: which files go where. The copying itself is in tnr_rsync.sh.
# Names of files never reach a shell or a pattern on the machine unquoted: folders are entered by a quoted `cd`, and the
# names that are wanted from there travel in a list.

readonly NOT_COPIED=1

# Reads the arguments. Sets ID, UPLOAD (1, or nothing for a download), SOURCES and TARGET.
read_copy_arguments() {
  local operands=() operand remote=0
  ID='' UPLOAD='' SOURCES=()
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      -r | -R | --recursive) ;;
      --) shift; operands+=("$@"); break ;;
      -*) die_usage "scp: unknown option: $1" ;;
      *) operands+=("$1") ;;
    esac
    shift
  done
  for operand in "${operands[@]}"; do
    [[ -n $operand ]] || die_usage "scp: an empty name"
    [[ ! $operand =~ ^$ID_PATTERN: ]] || { : "${ID:=${operand%%:*}}"; remote=$((remote + 1)); }
  done
  if ((remote == 0)); then
    ((${#operands[@]} >= 3)) || die_usage "scp needs ID FILE... PATH, or ID:PATH on one side"
    ID=${operands[0]}
    check_instance_id "$ID"
    UPLOAD=1 SOURCES=("${operands[@]:1:${#operands[@]}-2}")
    TARGET=$(remote_path "$(without_our_home "${operands[-1]}")")
    return
  fi
  ((${#operands[@]} >= 2)) || die_usage "scp needs a source and a target"
  TARGET=${operands[-1]}
  SOURCES=("${operands[@]::${#operands[@]}-1}")
  if ((remote == 1)) && [[ $TARGET =~ ^$ID_PATTERN: ]]; then
    UPLOAD=1 TARGET=$(remote_path "${TARGET#*:}")
    return
  fi
  ((remote == ${#SOURCES[@]})) && [[ ! $TARGET =~ ^$ID_PATTERN: ]] ||
    die_usage "scp copies from one instance here, or from here to one instance (a name of here that holds a colon: ./NAME)"
  for operand in "${SOURCES[@]}"; do
    [[ $operand == "$ID:"* ]] || die_usage "scp: sources on two instances: $ID and ${operand%%:*}"
  done
  SOURCES=("${SOURCES[@]#"$ID:"}")
}

# The user's shell has made ~ the home folder of here, but the machine's was meant.
without_our_home() {
  local home=${HOME:-}
  home=${home%/}
  case $1 in
    "${home:-/}") printf '~' ;;
    "${home:-/}"/*) printf '~%s' "${1#"$home"}" ;;
    *) printf '%s' "$1" ;;
  esac
}

# A path there: absolute, or relative to the home folder, beginning with "/" or ".".
remote_path() {
  case $1 in
    '' | "~") printf . ;;
    "~"/*) printf './%s' "${1#\~/}" ;;
    *) local_path "$1" ;;
  esac
}

local_path() {
  [[ $1 == /* ]] || printf ./
  printf '%s' "$1"
}

# Whether a source means what is in it, not the folder itself.
means_contents() {
  [[ /$1 == */ || /$1 == */. || /$1 == */.. ]]
}

tnr_scp() {
  read_copy_arguments "$@"
  check_rsync_here
  if [[ -n $UPLOAD ]]; then upload; else download; fi
}

fail_copy() {
  note "tnr: $*"
  exit "$NOT_COPIED"
}

# Asks the machine: `ask STUB ARGUMENT...`. Sets ANSWER. What a login prints around the answer is ignored.
ask() {
  STATUS=0
  LIMIT=65536 run_there "$(bash_line "$@")" </dev/null >"$WORK/answer"
  ((STATUS != NOT_REACHED)) || exit "$NOT_REACHED"
  ANSWER=$(sed -n 's/^tnr-answer //p' "$WORK/answer" | tail -n 1)
  [[ -n $ANSWER ]] || fail_copy "$PLACE: gave no answer; is bash there, and room in ${TMPDIR:-/tmp} here?"
}

# --- here to there -------------------------------------------------------------------------------------------------

# What the target is.
# shellcheck disable=SC2016 # expanded there
readonly STUB_RECEIVE='
kind=other; [ ! -d "$1" ] || kind=folder
echo "tnr-answer $kind"'

upload() {
  local source must_be='' name
  choose_backend "$ID"
  for source in "${SOURCES[@]}"; do
    [[ -e $source ]] || fail_copy "$source: not there"
    [[ $source != */ || -d $source ]] || fail_copy "$source: not a folder"
    ! means_contents "$source" || must_be=folder
  done
  ((${#SOURCES[@]} == 1)) && [[ $TARGET != */ ]] || must_be=folder
  set_transport "$ID"
  if [[ -n $must_be ]]; then ANSWER=folder; else ask "$STUB_RECEIVE" "$TARGET"; fi
  source=${SOURCES[0]}
  if [[ $ANSWER == folder ]]; then
    put_files "$TARGET" "${SOURCES[@]}"
  elif [[ -d $source ]]; then # it becomes the target: what is in it goes into a folder of that name
    SOURCES=("$source/")
    put_files "$TARGET" "$source/"
  else # under its new name from the start: a link, which is followed
    name=$(basename -- "$TARGET")
    mkdir "$WORK/renamed"
    ln -s "$(cd -- "$(dirname -- "$source")" && pwd)/$(basename -- "$source")" "$WORK/renamed/$name"
    put_files "$(dirname -- "$TARGET")" "$WORK/renamed/$name"
  fi
  for source in "${SOURCES[@]}"; do bring_library_along "$source"; done
}

# Copies sources into a folder there, which is made if it is not there.
put_files() {
  local folder=$1 places=() compress=() source
  shift
  for source in "$@"; do
    if [[ $source == / ]] || ! means_contents "$source"; then
      places+=("$(local_path "$source")")
    else
      places+=("$(local_path "${source%/}")/") # also "." and "..": what is in them
    fi
  done
  [[ $BACKEND == local ]] || compress=(--compress) # data goes up several times faster on a home line
  run_rsync "$(quote "$folder")" -p --copy-links "${compress[@]}" --exclude=__pycache__ '--exclude=*.pyc' -- "${places[@]}" instance:./
}

# The guide's list of what to upload is older than the package and names the requirements in one phase only.
bring_library_along() {
  local source=$1 beside there=$TARGET extra=() name
  [[ -d $source && -f $source/train_full_dataset.py && -f $source/_bootstrap.py ]] || return 0
  ! means_contents "$source" || there=$(dirname -- "$TARGET")
  beside=$(cd -- "$source/.." && pwd)
  for name in socrates requirements_full_training.txt; do
    [[ ! -e $beside/$name ]] || is_among_sources "$beside/$name" || extra+=("$beside/$name")
  done
  ((${#extra[@]})) || return 0
  note "tnr: scripts/ needs what lies beside it: also uploading ${extra[*]##*/}"
  put_files "$there" "${extra[@]}"
}

is_among_sources() {
  local source
  for source in "${SOURCES[@]}"; do
    [[ ! $source -ef $1 ]] || return 0
  done
  return 1
}

# --- there to here -------------------------------------------------------------------------------------------------

# What the first source is, and whether the others hold checkpoints.
# shellcheck disable=SC2016 # expanded there
readonly STUB_LOOK='
kind=absent
if [ $# -gt 1 ] && find "${@:2}" -type d -regex ".*/checkpoint-[0-9]+" 2>/dev/null | grep -q .; then kind=checkpoints
elif [ -L "$1" ]; then kind=link; elif [ -d "$1" ]; then kind=folder; elif [ -e "$1" ]; then kind=file; fi
echo "tnr-answer $kind"'

download() {
  local source sources=() unknown=() into=''
  ANSWER=''
  # A checkpoint is copied by the program that verifies it: half of one must never stand under its name.
  for source in "${SOURCES[@]}"; do
    if [[ $(basename -- "$source") =~ ^checkpoint-[0-9]+$ ]] && ! means_results "$source"; then
      "$SOCRATES_ROOT/scripts/download_checkpoint.sh" --from="$ID:$source" --to="$TARGET" || exit "$?"
    else
      [[ /$source/ != */../* ]] || die_usage "scp: \"..\" in a path there; write the path without it"
      sources+=("$(remote_path "$source")")
      [[ /$source =~ /checkpoint-[0-9]+/ ]] || means_results "$source" || unknown+=("${sources[-1]}")
    fi
  done
  ((${#sources[@]})) || exit 0

  [[ $TARGET != */ && ! -d $TARGET ]] && ((${#sources[@]} == 1)) && ! means_contents "${sources[0]}" || into=1
  if [[ -n $into ]]; then make_folder "$TARGET"; else make_folder "$(dirname -- "$TARGET")"; fi
  set_transport "$ID"
  # The files of a checkpoint, in one connection: the monitor's way.
  if [[ -z $into ]] || ((${#unknown[@]})); then ask "$STUB_LOOK" "${sources[0]}" "${unknown[@]}"; fi
  if [[ $ANSWER == checkpoints ]]; then
    fail_copy "$PLACE: not copied: it holds checkpoints, half of which must never look whole; fetch those with
  ./scripts/monitor_checkpoints.sh $ID --once, and other files by their names"
  fi
  if [[ -n $into ]]; then
    get_files "$TARGET/" "${sources[@]}"
    check_arrived "${sources[@]}"
    return
  fi
  case $ANSWER in
    folder) make_folder "$TARGET"; get_files "$TARGET/" "${sources[0]}/" ;;
    file) get_files "$TARGET" "${sources[0]}" ;;
    link) fail_copy "$PLACE: ${sources[0]#./}: is a link; links are not copied" ;;
    *) fail_copy "$PLACE: ${sources[0]#./}: not there" ;;
  esac
}

# What an evaluation wrote about a checkpoint lies in a folder of the same name.
means_results() {
  [[ /$1/ == */evaluation_results/* ]]
}

make_folder() {
  mkdir -p -- "$1" || fail_copy "$1: cannot make this folder"
}

# A source that is itself a link is passed over, and rsync calls that a success.
check_arrived() {
  local source
  for source in "$@"; do
    means_contents "$source" || [[ -e $TARGET/$(basename -- "$source") ]] ||
      fail_copy "$PLACE: ${source#./}: was not copied: it is a link"
  done
}

# Copies sources here: into a folder (TARGET ends in "/") or under a new name. Those in the home folder begin with ".".
get_files() {
  local base source target list
  target=$(local_path "$1")
  for base in . /; do
    list=()
    for source in "${@:2}"; do [[ ${source::1} != "$base" ]] || list+=("$source"); done
    ((${#list[@]})) || continue
    printf '%s\0' "${list[@]}" >"$WORK/list" || fail_copy "cannot write in ${TMPDIR:-/tmp}"
    run_rsync "$base" --from0 --no-relative --files-from="$WORK/list" -- instance:./ "$target"
  done
}
