# shellcheck shell=bash
# Sourced by the bash scripts: messages, usage from the header, arguments, the project's Python.
# Messages go to standard error, data to standard output. Exit status 2: cannot.

case $BASH_VERSION in
  [1-3].* | 4.[0-3].*)
    echo "${0##*/}: error: needs bash 4.4 or later; the one on the PATH is $BASH_VERSION (macOS: brew install bash)" >&2
    exit 2
    ;;
esac

# What a shell exports for itself must not change what a script says. It begins anew without functions and options (-p
# takes none), nor what would change a shell or a program below. Untraced: a trace shows tokens.
{ set +xv; } 2>/dev/null
if [[ $- != *p* && ${BASH_SOURCE[-1]} == "$0" ]]; then
  without=()
  for name in BASH_COMPAT BASH_ENV BASHOPTS CDPATH ENV FUNCNEST GLOBIGNORE GREP_OPTIONS POSIXLY_CORRECT SHELLOPTS TMOUT \
    "${!RSYNC_@}" $(compgen -A function -P BASH_FUNC_ -S %%); do
    without+=(-u "$name")
  done
  exec env "${without[@]}" "$BASH" -p "$0" "$@"
fi

# Ctrl+C ends a script whatever its command made of it: a Python that is interrupted while it starts leaves with
# status 1, which reads as an answer, and the script would go on.
trap 'trap - INT; kill -INT $$' INT

SOCRATES_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Prints the header comment of the running script, up to its first line that is no comment.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
}

die() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2 || true # a full disk there must not make it 1, which is an answer
  exit 2
}

# A wrong command line: what is wrong, then where the right one is told.
die_usage() {
  printf '%s: error: %s\nTry: %s --help\n' "${0##*/}" "$*" "$0" >&2 || true
  exit 2
}

# An argument that the script does not take; of the options that are gone (socrates/errors.py) what is in their place.
die_unknown() {
  local script=${0##*/} instead=''
  [[ ! $1 =~ ^--[a-z-]+ ]] ||
    instead=$(sed -nE "s/^    \"(.* )?${script%.sh} (.* )?${BASH_REMATCH[0]}\": \"(.*)\",\$/\3/p" \
      "$SOCRATES_ROOT/socrates/errors.py" 2>/dev/null) || true
  [[ -z $instead ]] || die "${1%%=*} is gone: $instead"
  die_usage "unknown argument: $1"
}

note() {
  printf '%s\n' "$*" >&2 || true
}

# Runs a command that ends in one of our Python programs, and leaves with its status. Its 0 and 1 are believed only as 100
# and 101, which it says when told to (run_entry_point in socrates/errors.py): a Python that dies on the way says 1, too,
# or 120 where it cannot say why.
answer() {
  local status=0
  SOCRATES_ANSWER=1 "$@" || status=$?
  case $status in
    100 | 101) return $((status - 100)) ;;
    0 | 1 | 120) note "${0##*/}: error: Python ended (status $status) before it could answer"; return 2 ;;
    *) return "$status" ;;
  esac
}

# An option that takes a value: `need_value "$@"` with the option first.
need_value() {
  (($# >= 2)) && [[ -n $2 ]] || die_usage "$1 needs a value"
}

ID_PATTERN='[A-Za-z0-9][A-Za-z0-9_-]{0,63}'
check_instance_id() {
  [[ $1 =~ ^$ID_PATTERN$ ]] || die_usage "\"$1\" is no instance id; \`tnr status\` lists them (0 is the first)"
}

# A word for any POSIX shell, exactly: in single quotes.
quote() {
  printf "'%s'" "${1//\'/\'\\\'\'}"
}

# first_python CHECK PYTHON...: prints the first one that is there and for which the check (a Python program) succeeds.
first_python() {
  local candidate
  for candidate in "${@:2}"; do
    if [[ -n $candidate ]] && command -v "$candidate" >/dev/null && "$candidate" -c "$1" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# The environment's Python: an activated one, else ./venv as the guide makes it, else python3. Sets PYTHON.
find_environment() {
  local has_packages='import importlib.util as u, sys; sys.exit(not (u.find_spec("transformers") and u.find_spec("peft")))'
  PYTHON=$(first_python "$has_packages" "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "$SOCRATES_ROOT/venv/bin/python" python3) ||
    die "no Python environment with the project's packages; make it:
  python3 -m venv venv && source venv/bin/activate && pip install -r requirements_full_training.txt"
}

# Any Python of 3.11 or later, no packages needed: the activated environment's, ./venv's, or one on the PATH. Sets PYTHON,
# and tells it the project's folder.
find_python() {
  PYTHON=$(first_python 'import sys; sys.exit(sys.version_info < (3, 11))' "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" \
    "$SOCRATES_ROOT/venv/bin/python" python3 python3.1{4,3,2,1}) ||
    die "needs Python 3.11 or later on the PATH; python3 is $(python3 --version 2>&1 || echo not there)"
  export SOCRATES_ROOT
}

# The newest Python on the PATH that the pinned packages support, and whether the environment is one with pip.
PINNED='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
newest_python() {
  first_python "$PINNED" python3.13 python3.12 python3.11 python3
}
has_environment() {
  [[ -n $(first_python "$PINNED" "$SOCRATES_ROOT/venv/bin/python") ]] &&
    "$SOCRATES_ROOT/venv/bin/python" -m pip --version >/dev/null 2>&1
}

# Two installations at once: the second waits, and finds it made. Held until descriptor 8 is closed.
lock_environment() {
  command -v flock >/dev/null || return 0 # macOS
  exec 8>>"$SOCRATES_ROOT/.venv.lock"
  local status=0
  flock -n -E 75 8 2>/dev/null || status=$?
  case $status in
    0) ;;
    75) note "waiting for another installation into $SOCRATES_ROOT/venv"; flock 8 ;;
    *) note "the disk of $SOCRATES_ROOT locks no files: start no second installation until this one has ended" ;;
  esac
}

# Makes ROOT/venv and installs requirements files that are not, or not in this version, installed yet. Sets PYTHON.
ensure_environment() {
  local venv=$SOCRATES_ROOT/venv base file missing=() arguments=()
  lock_environment
  PYTHON=$venv/bin/python
  if ! has_environment; then
    base=$(newest_python) || die "needs Python 3.11, 3.12 or 3.13 on the PATH; python3 is $(python3 --version 2>&1 || echo not there)"
    note "making $venv with $("$base" --version)"
    "$base" -m venv --clear "$venv" || die "cannot make a virtual environment; on Debian: apt-get install python3-venv"
  fi
  for file in "$@"; do
    arguments+=(-r "$SOCRATES_ROOT/$file")
    cmp -s "$SOCRATES_ROOT/$file" "$venv/.installed-$file" || missing+=("$file")
  done
  if ((${#missing[@]} == 0)); then
    exec 8>&-
    return
  fi
  note "installing ${missing[*]} into $venv (once; some minutes)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "${arguments[@]}" ||
    die "pip could not install ${missing[*]}: see its message above"
  for file in "${missing[@]}"; do cp "$SOCRATES_ROOT/$file" "$venv/.installed-$file"; done
  exec 8>&-
}
