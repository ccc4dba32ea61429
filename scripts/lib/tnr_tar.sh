# shellcheck shell=bash
# Copying where a side has no rsync: a tar stream through the transport. Keeps the rules of tnr_copy.sh (hidden files,
# slashes, links); not resumable.

# Packs places (with a slash at the end: what is in them) into a folder there: `put_with_tar FOLDER [--exclude=...] -- PLACE...`.
put_with_tar() {
  local folder=$1 place excluded=() arguments=() statuses=(0 0)
  shift
  while [[ $1 != -- ]]; do excluded+=("$1"); shift; done
  shift
  for place in "$@"; do
    if [[ $place == */ ]]; then
      arguments+=(-C "$(cd -- "$place" && pwd)" .)
    else
      arguments+=(-C "$(cd -- "$(parent_of "$place")" && pwd)" "./$(last_name "$place")")
    fi
  done
  # COPYFILE_DISABLE: macOS would add a ._ file beside each file. shellcheck: $1 is expanded there.
  # shellcheck disable=SC2016
  COPYFILE_DISABLE=1 tar -chf - "${excluded[@]}" "${arguments[@]}" |
    "${TRANSPORT[@]}" "$(bash_line 'mkdir -p -- "$1" && cd -- "$1" && tar -xof -' "$folder")" || statuses=("${PIPESTATUS[@]}")
  finish_stream "${statuses[1]}" "${statuses[0]}"
}

# The stream that the machine sends: each source from its own folder, under its own name.
# shellcheck disable=SC2016 # expanded there
readonly STUB_PACK='
arguments=()
for source in "$@"; do
  if [[ $source == */ || $source == . ]]; then
    arguments+=(-C "$(cd -- "$source" && pwd)" .) || exit 1
  else
    name=${source##*/}
    folder=${source%"$name"}
    arguments+=(-C "$(cd -- "${folder:-.}" && pwd)" "./$name") || exit 1
  fi
done
exec tar --hard-dereference -cf - "${arguments[@]}"'

# Unpacked by our own program: what comes is what the machine chose to send.
get_with_tar() {
  local target=$1 statuses=(0 0)
  shift
  command -v python3 >/dev/null || die "needs rsync on both sides, or python3 here"
  "${TRANSPORT[@]}" "$(bash_line "$STUB_PACK" "$@")" </dev/null |
    python3 -I -S "$SOCRATES_ROOT/scripts/lib/tnr_untar.py" "$target" || statuses=("${PIPESTATUS[@]}")
  finish_stream "${statuses[0]}" "${statuses[1]}"
}

# `finish_stream TRANSPORT_STATUS OTHER_STATUS`
finish_stream() {
  (($1 != 130 && $2 != 130)) || exit 130
  case $1 in
    254 | 255 | 129 | 137 | 143) say_not_reached; exit "$NOT_REACHED" ;;
  esac
  show_ssh_messages
  (($1 == 0 && $2 == 0)) || exit "$NOT_COPIED"
}
