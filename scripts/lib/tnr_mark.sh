# shellcheck shell=bash
# Bash lines for the login shell of a machine, and a mark before what they print: start-up files there may greet.

MARKED=1 # empty: what the line prints comes as it is
readonly UNMARKED=125 # the status where no mark came

# The line that runs a bash program with arguments: `bash_line PROGRAM ARGUMENT...`.
bash_line() {
  local argument say_mark=''
  if [[ -n $MARKED ]]; then
    # "$?x" is "0" to tcsh and wrong to fish, which would read the rest in their own way, too.
    printf '%s\n' ":; test \"\$?x\" = 0x || exec false"
    say_mark='unset CDPATH; printf "\n%s\n" tnr-mark; '
  fi
  # In the place of the login shell, bash would read the start-up files that are for that one (--norc).
  printf 'exec bash --norc -c %s tnr' "$(quote "$say_mark$1")"
  for argument in "${@:2}"; do printf ' %s' "$(quote "$argument")"; done
}

# Passes on what comes after the mark, up to LIMIT bytes of it where that is set.
after_mark() {
  local line count
  for ((count = 0; count < 10000; count++)); do # also a greeting without end comes to one
    IFS= read -r -n 4096 line || break
    [[ $line == tnr-mark ]] || continue
    if [[ -n ${LIMIT:-} ]]; then exec head -c "$LIMIT"; else exec cat; fi
  done
  exit "$UNMARKED"
}

die_unmarked() {
  die "$PLACE: its login shell did not come to run bash: it is no POSIX shell (tcsh, fish), or a start-up file there ends or replaces it; there: chsh -s /bin/bash"
}
