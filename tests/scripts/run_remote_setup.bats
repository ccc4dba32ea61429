#!/usr/bin/env bats
# run_remote_setup.sh on a machine behind a real sshd; its Pythons, pip and uv are stand-ins.
load helper
load sshd
load launching

setup() {
  make_laptop
  add_ssh_instance
  TOOLS=$BATS_TEST_TMPDIR/tools
  mkdir "$TOOLS"
  export CALLS=$BATS_TEST_TMPDIR/calls
  : >"$CALLS"
  # shellcheck disable=SC2016 # by the machine
  printf 'PATH=%q:$PATH\nDS_ACCELERATOR=cpu\nCALLS=%q\nTOOLS=%q\nREAL=%q\n' \
    "$TOOLS" "$CALLS" "$TOOLS" "$ROOT/venv/bin/python" >instances/0/environment
  cat >"$TOOLS/an-environment" <<'FAKE'
#!/usr/bin/env bash
# The Python of venv/: this project's, but for pip: with a file no-pip there is none, with pip-fails it cannot install.
case "$*" in
  "-m pip --version") [[ ! -e $TOOLS/no-pip ]] ;;
  "-m pip install "*) last=${*: -1}; echo "pip ${last##*/}" >>"$CALLS"; [[ ! -e $TOOLS/pip-fails ]] ;;
  *) exec "$REAL" "$@" ;;
esac
FAKE
  cat >"$TOOLS/old-python" <<'FAKE'
#!/usr/bin/env bash
# Python 3.10; its pip can install uv for the user, unless there is a file no-uv.
case "$*" in
  --version) echo "Python 3.10.12" ;;
  "-m pip install "*" uv") echo "getting uv" >>"$CALLS"
    [[ ! -e $TOOLS/no-uv ]] || exit 1
    mkdir -p ~/.local/bin && cp "$TOOLS/fake-uv" ~/.local/bin/uv ;;
  *) exit 1 ;;
esac
FAKE
  cat >"$TOOLS/fake-uv" <<'FAKE'
#!/usr/bin/env bash
echo "uv $*" >>"$CALLS"
rm -f "$TOOLS/no-pip"
mkdir -p venv/bin && cp "$TOOLS/an-environment" venv/bin/python
FAKE
  printf '#!/bin/sh\nexit 6\n' >"$TOOLS/curl"
  chmod +x "$TOOLS"/*
  for name in python3 python3.11 python3.12 python3.13; do ln -s old-python "$TOOLS/$name"; done
}

teardown() {
  stop_sshd "$LAPTOP/instances/0"
  delete_machine
}

set_up() {
  run ./run_remote_setup.sh "$@" </dev/null
}

has_environment() {
  mkdir -p "$THERE/venv/bin"
  cp "$TOOLS/an-environment" "$THERE/venv/bin/python"
}

@test "wrong arguments end with 2 before anything happens" {
  cp config_test_run.json data/
  for arguments in "--nonsense" "1 0" "../x" "--config" "--config absent.json" "--config data/config_test_run.json"; do
    # shellcheck disable=SC2086 # several arguments
    set_up $arguments
    assert_status 2
    assert_output_has "run_remote_setup.sh: error: "
  done
  [[ -z $(ls -A "$THERE") ]]
}

@test "code, configs and data arrive, one's own config too, and nothing there is deleted" {
  has_environment
  mkdir -p "$THERE/models/run/checkpoint-500" "$THERE/scripts"
  touch "$THERE/models/run/checkpoint-500/manifest.json" "$THERE/scripts/mine.py" "$THERE/data.txt"
  cp config_full_dataset.json "my own.json"
  cp -r models/tiny "$THERE/models/"
  set_up 1 --config "my own.json"
  assert_status 0
  assert_output_has "Instance 1 is ready"
  assert_output_has "[pass] data: data/socsci210_full/train.jsonl"
  for file in scripts/supervise.py socrates/errors.py "my own.json" config_test_run.json deepspeed_config.json launch_test_run.sh \
    data/socsci210_full/val.jsonl requirements_full_training.txt models/run/checkpoint-500/manifest.json scripts/mine.py data.txt; do
    [[ -f $THERE/$file && ! -L $THERE/$file ]] || { echo "$file is not there"; return 1; }
  done
  [[ $output != *"also uploading"* ]]
}

@test "a machine without a usable rsync gets one before anything is uploaded" {
  has_environment
  printf '#!/bin/sh\necho "rsync  version 2.6.9  protocol version 29"\n' >"$TOOLS/rsync"
  # shellcheck disable=SC2016 # by the machine
  printf '#!/bin/sh\necho "apt-get $*" >>"$CALLS"\n[ ! -e "$TOOLS/no-network" ] || exit 100\n[ "$1" != install ] || rm "$TOOLS/rsync"\n' >"$TOOLS/apt-get"
  # shellcheck disable=SC2016 # by the machine
  printf '#!/bin/sh\nshift\nexec "$@"\n' >"$TOOLS/sudo"
  chmod +x "$TOOLS/rsync" "$TOOLS/apt-get" "$TOOLS/sudo"
  touch "$TOOLS/no-network"
  set_up 1 --no-data
  assert_status 2
  assert_output_has "which could not be installed; as root there: apt-get update; apt-get install -y rsync"
  [[ ! -e $THERE/scripts ]]
  rm "$TOOLS/no-network"
  set_up 1 --no-data
  assert_status 0
  assert_output_has "Installing rsync..."
  grep -qx 'apt-get install -qq -y rsync' "$CALLS"
}

@test "what stands in the way is named, with 1" {
  has_environment
  set_up 1 --no-data --config config_full_dataset.json
  assert_status 1
  assert_output_has "[FAIL] data: data/socsci210_full/train.jsonl is not there"
  assert_output_has "Instance 1: the lines marked FAIL stand in the way"
}

# bats test_tags=slow
@test "an old Python and no uv: uv is got, and makes the environment; done once; an install that failed is done again" {
  touch "$TOOLS/pip-fails"
  set_up 1
  assert_status 2
  assert_output_has "pip could not install requirements_full_training.txt"
  assert_output_has "could not be set up"
  [[ $(<"$CALLS") == $'getting uv\nuv venv --quiet --clear --seed --python 3.12 venv\npip requirements_full_training.txt' ]]
  rm "$TOOLS/pip-fails"
  for calls in "pip requirements_full_training.txt" ""; do
    : >"$CALLS"
    set_up 1
    assert_status 0
    [[ $(<"$CALLS") == "$calls" ]]
  done
  # An environment whose making was interrupted is made anew.
  touch "$TOOLS/no-pip"
  set_up 1
  assert_status 0
  [[ $(head -n 1 "$CALLS") == "uv venv "* ]]
}

@test "no Python and no way to one: it says so, with 2" {
  touch "$TOOLS/no-uv"
  set_up 1
  assert_status 2
  assert_output_has "no Python 3.11, 3.12 or 3.13 here, and uv could not be installed"
  [[ ! -e $THERE/venv ]]
}

@test "a lost connection is called that" {
  has_environment
  # shellcheck disable=SC2016 # by the machine
  echo '[[ $SSH_ORIGINAL_COMMAND != *setup_machine* ]] || { kill -9 "$PPID"; exit 1; }' >>instances/0/environment
  set_up 1
  assert_status 2
  assert_output_has "the connection to instance 1 was lost; run the same command again"
}
