#!/usr/bin/env bats
# The contract of scripts/tnr, on a folder of this machine, on a real sshd, and on an imitation of Thunder's CLI.
# What is in single quotes is for the machine's shell; each test has its own environment.
# shellcheck disable=SC2016,SC2030,SC2031
load helper
load sshd

setup_file() {
  start_sshd "$BATS_FILE_TMPDIR/a machine" >/dev/null
  PYTHON=$(python3 -c 'import sys; print(sys.executable)')
  export SSHD_PORT SSHD_PID PYTHON
}

teardown_file() {
  stop_sshd
}

teardown() {
  stop_sshd "$BATS_TEST_TMPDIR/another machine"
}

# A laptop's project folder, of links, as the rehearsal makes it; the scripts that tnr calls are stand-ins.
setup() {
  unset HF_TOKEN TNR_API_TOKEN HUGGING_FACE_HUB_TOKEN SOCRATES_BACKEND SOCRATES_ROOT XDG_CACHE_HOME
  export HOME=$BATS_TEST_TMPDIR/home CALLS=$BATS_TEST_TMPDIR/calls TNR_CALLS=$BATS_TEST_TMPDIR/tnr_calls
  LAPTOP="$BATS_TEST_TMPDIR/lap top" TOOLS=$BATS_TEST_TMPDIR/tools
  mkdir -p "$HOME" "$LAPTOP/scripts" "$TOOLS"
  : >"$CALLS"
  : >"$TNR_CALLS"
  cd "$LAPTOP" || return 1
  for name in tnr activate lib _bootstrap.py train_full_dataset.py; do ln -s "$ROOT/scripts/$name" scripts/; done
  ln -s "$ROOT/socrates" "$ROOT/requirements_full_training.txt" "$ROOT"/*.json .
  printf '#!/usr/bin/env bash\nprintf "<%%s>" "$@" >>"$CALLS"\necho "$MISSING"\nexit $((${#MISSING} > 0))\n' >scripts/monitor_checkpoints.sh
  printf '#!/usr/bin/env bash\nprintf "<%%s>" "$@" >>"$CALLS"\n' >scripts/download_checkpoint.sh
  printf 'echo "test run with $HF_TOKEN"\n' >launch_test_run.sh
  chmod +x scripts/*.sh
  mkdir -p data/socsci210_full
  echo row >data/socsci210_full/train.jsonl
  # ssh reads the configuration of the account, not of $HOME
  printf '#!/usr/bin/env bash\nexec %q -F "$HOME/.ssh/config" "$@"\n' "$(command -v ssh)" >"$TOOLS/ssh"
  mkdir -p "$HOME/.ssh"
  : >"$HOME/.ssh/config"
  chmod +x "$TOOLS/ssh"
  ln -s "$PYTHON" "$TOOLS/python3" # itself, where the one on the PATH is a slow wrapper
  export PATH=$TOOLS:$PATH
  source scripts/activate
  MACHINE="$BATS_FILE_TMPDIR/a machine"
}

# Makes instance 0 on a backend, found without being named; sets REMOTE, its home folder as seen from here.
use() {
  rm -rf instances.json instances
  case $1 in
    local)
      SOCRATES_BACKEND=local tnr create >/dev/null 2>&1
      REMOTE=$LAPTOP/instances/0/home
      return
      ;;
    ssh) printf '{"0": %s}\n' "$(cat "$MACHINE/instance.json")" >instances.json ;;
    tnr_v2)
      export TNR_SSHD=$MACHINE TNR_CONNECT_JSON=1
      use_cli tnr_v2
      ;;
  esac
  REMOTE=$MACHINE/home
  rm -rf "$REMOTE" "$MACHINE/environment"
  mkdir "$REMOTE"
  printf 'echo Welcome; trap "echo Goodbye" EXIT; CDPATH=/; export CDPATH; printf "No end"' >"$REMOTE/.bashrc"
}

use_cli() {
  ln -s "$BATS_TEST_DIRNAME/imitations/$1" "$TOOLS/tnr"
}

assert_equal() {
  [[ $1 == "$2" ]] || { printf 'expected: %q\ngot:      %q\n' "$2" "$1"; return 1; }
}

assert_calls_have() {
  grep -qF -- "$1" "$TNR_CALLS" || { printf 'no call: %s\ncalls:\n%s\n' "$1" "$(cat "$TNR_CALLS")"; return 1; }
}

# Not as a zombie that nobody has waited for yet.
is_running() {
  [[ $(ps -o stat= -p "$1") == [!Z]* ]]
}

wait_for_file() {
  for ((i = 0; i < 12000; i++)); do
    [[ ! -e $1 ]] || return 0
    sleep 0.02
  done
  echo "$1 did not appear"
  return 1
}

# What a machine has: an environment, logs, and stand-ins for what needs a GPU or does not end.
furnish() {
  mkdir -p "$REMOTE/socrates-training"/{venv/bin,models/socrates-qwen-full-dataset/checkpoint-500,models/socrates-qwen-test-run/checkpoint-10} "$REMOTE/bin"
  for log in training training_test training_500step; do echo "{'loss': 2.1} of $log" >"$REMOTE/socrates-training/$log.log"; done
  echo 'PATH=$HOME/bin:$PATH' >"$REMOTE/socrates-training/venv/bin/activate"
  echo 'echo "GPU 0"' >"$REMOTE/bin/nvidia-smi"
  # tail that ends, and a training that looks for its token in the process lists
  printf '[[ $1 != -f ]] || shift\nexec /usr/bin/tail "$@"\n' >"$REMOTE/bin/tail"
  cat >"$REMOTE/bin/deepspeed" <<'DEEPSPEED'
#!/usr/bin/env bash
for process in /proc/[0-9]*; do
  ! tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -aF "$HF_TOKEN" >>seen.new || echo "in $process" >>seen.new
done
echo "token ${HF_TOKEN:0:6}, $*" >>seen.new
mv seen.new seen
sleep 0.5
DEEPSPEED
  chmod +x "$REMOTE/bin"/*
  printf 'PATH=%q:$PATH\n' "$REMOTE/bin" >"$MACHINE/environment"
}

# --- every line of the guide -----------------------------------------------------------------------------------------

# bats test_tags=slow
@test "every line of the guide goes through on Thunder's CLI of today" {
  use tnr_v2
  furnish
  export HF_TOKEN=hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ
  while IFS= read -r line <&9; do
    run bash -c "$line" </dev/null # as a person would paste it
    assert_status 0
    case $line in
      'tnr create'*) assert_output_has "Instance 0 created"; assert_output_has '"us-east" is not used' ;;
      *nvidia-smi*) assert_output_has "GPU 0" ;;
      *socrates-qwen-full-dataset*) assert_equal "$output" checkpoint-500 ;;
      *launch_test_run.sh\') assert_output_has "test run with YOUR_HF_TOKEN" ;;
      *nohup*)
        wait_for_file "$REMOTE/socrates-training/seen"
        assert_equal "$(cat "$REMOTE/socrates-training/seen")" \
          "token hf_ABC, --num_gpus=4 scripts/train_full_dataset.py --config config_500step_validation.json --deepspeed deepspeed_config.json"
        ;;
      *checkpoint-500\ *)
        assert_equal "$(cat "$CALLS")" "<--from=0:~/socrates-training/models/socrates-qwen-500step-validation/checkpoint-500><--to=models/socrates-qwen-500step-validation/>"
        ;;
    esac
  done 9< <(awk '/^tnr/ && !seen[$0]++' "$ROOT/tests/guide/guide_commands.txt")
  for name in scripts/train_full_dataset.py scripts/lib/common.sh socrates/errors.py data/socsci210_full/train.jsonl \
    config_500step_validation.json deepspeed_config.json requirements_full_training.txt; do
    cmp "$name" "$REMOTE/socrates-training/$name"
  done
  : >"$CALLS"
  tnr delete 0
  assert_equal "$(cat "$CALLS")" "<0><--missing>"
  assert_calls_have "create --mode production --gpu a100 --num-gpus 4 --template base --primary-disk 500"
  assert_calls_have "create --mode production --gpu a100 --num-gpus 2 --template base --primary-disk 200"
  assert_calls_have "delete 0 --yes"
  run grep -c '^scp\|^ssh ' "$TNR_CALLS" # its scp cannot be trusted, and it has no ssh
  assert_equal "$output" 0
  assert_equal "$(grep -c ^connect "$TNR_CALLS")" 1
  tnr ssh 0 true </dev/null # the number is given again: the old machine's entry is not trusted
  assert_equal "$(grep -c ^connect "$TNR_CALLS")" 2
}

# --- commands --------------------------------------------------------------------------------------------------------

commands_behave() {
  use "$1"
  for code in 0 1 42 137 255; do
    run tnr ssh 0 "exit $code" </dev/null
    assert_status "$code"
    assert_equal "$output" ""
  done
  run tnr ssh 0 'pwd; echo "$HOME"; echo ~/x' </dev/null
  assert_equal "$output" "$REMOTE"$'\n'"$REMOTE"$'\n'"$REMOTE/x"
  # quotes, a dollar sign, a backslash, several lines: exactly as written
  run tnr ssh 0 'printf "%s|" "a  b" '"'it'\"'\"'s'"' "\$HOME" \\ ; \
    echo "second
line"' </dev/null
  assert_equal "$output" $'a  b|it\'s|$HOME|\\|second\nline'
  assert_equal "$(printf 'to stdin' | tnr ssh 0 'cat; echo " and $1"')" "to stdin and "
  # data on one stream, messages on the other
  assert_equal "$(tnr ssh 0 'echo out; echo err >&2' 2>"$BATS_TEST_TMPDIR/err" </dev/null)" out
  assert_equal "$(cat "$BATS_TEST_TMPDIR/err")" err
  assert_equal "$(head -c 300000 /dev/urandom | tee "$BATS_TEST_TMPDIR/bytes" | tnr ssh 0 cat | sha256sum)" "$(sha256sum <"$BATS_TEST_TMPDIR/bytes")"
  # without a command: one bash for all lines
  run tnr ssh 0 <<<$'cd /\nx=7\npwd; echo $x\nexit 42\necho never'
  assert_status 42
  assert_equal "$output" $'/\n7'
}

@test "commands on a folder of this machine and on an ssh host: status, quotes, streams, scripts" {
  commands_behave local
  commands_behave ssh
}

@test "a login shell that is no POSIX shell, or does not come to run bash: status 2, one line, and nothing is run" {
  use ssh
  for shell in tcsh fish false; do
    shell=$(command -v "$shell") || continue # .ci/run brings them
    printf 'LOGIN_SHELL=%q\n' "$shell" >"$MACHINE/environment"
    for words in 'ssh 0 touch\ made' 'scp 0 launch_test_run.sh made/' 'scp 0:.bashrc here/'; do
      eval "run tnr $words" </dev/null
      assert_status 2
      [[ ${lines[-1]} == "tnr: error: instance 0 "*"is no POSIX shell (tcsh, fish)"*"chsh -s /bin/bash" ]] || { echo "$output"; return 1; }
    done
    [[ ! -e $REMOTE/made && ! -e here/.bashrc ]]
  done
}

# A person at a terminal.
@test "a shell at a terminal ends with its own status" {
  for backend in ssh local; do
    use "$backend"
    run script -qec "tnr ssh 0" /dev/null < <(printf 'cd /; echo in-$((40+2))-$(pwd); touch ~/said\nexit 17\n'; wait_for_file "$REMOTE/said" >&2)
    # An sshd that is not root's cannot give terminals away where /dev/pts is mounted without a group.
    [[ $EUID == 0 || $backend != ssh ]] || ! grep -q 'chown(/dev/pts' "$MACHINE/sshd.log" || continue
    assert_status 17
    assert_output_has "in-42-/"
  done
}

@test "a command that leaves a job behind ends when it has ended itself, and all of its output has come" {
  for backend in ssh local; do
    use "$backend"
    output=$(timeout 240 tnr ssh 0 'seq 50000; echo problem >&2; cd ~ && for i in {1..6000}; do [[ ! -e stop ]] || break; sleep 0.1; done && touch ended &  ' 2>"$BATS_TEST_TMPDIR/err" </dev/null)
    [[ ! -e $REMOTE/ended ]]
    assert_equal "$(sha256sum <<<"$output")" "$(seq 50000 | sha256sum)"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/err")" problem
    touch "$REMOTE/stop"
    wait_for_file "$REMOTE/ended"
  done
}

@test "a token in a command is in no process list, and the command runs all the same" {
  export HF_TOKEN=value-$$-$RANDOM$RANDOM
  for backend in local ssh tnr_v2; do
    use "$backend"
    rm -f "$REMOTE/go"
    for token in "$HF_TOKEN" "hf_ABCDEFGHIJK$$$RANDOM$RANDOM" "WANDB_API_KEY=$$$RANDOM$RANDOM"; do
      tnr ssh 0 "touch ready; for i in {1..6000}; do [[ ! -e go ]] || break; sleep 0.05; done; echo '$token'; cat; exit 42" >"$BATS_TEST_TMPDIR/out" <<<"not for it" 3>&- &
      wait_for_file "$REMOTE/ready"
      cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' >"$BATS_TEST_TMPDIR/processes"
      grep -qF 'command-on-stdin' "$BATS_TEST_TMPDIR/processes" # it looked where there is something to see
      run grep -cF "$token" "$BATS_TEST_TMPDIR/processes"
      assert_equal "$output" 0
      touch "$REMOTE/go"
      status=0
      wait $! || status=$?
      assert_status 42
      assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" "$token"
      rm -f "$REMOTE/go" "$REMOTE/ready"
    done
  done
}

@test "ssh and the CLI's other programs get no token in their environment, Thunder's CLI does" {
  use ssh
  use_cli tnr_v2
  export HF_TOKEN=aaaa TNR_API_TOKEN=bbbb
  sed -i '2i tr "\\0" "\\n" </proc/$$/environ >>"$CALLS"' "$TOOLS/ssh"
  tnr ssh 0 true </dev/null
  tnr scp 0 launch_test_run.sh x/
  grep -q "^TNR_CALLS=" "$CALLS"
  run grep -e aaaa -e bbbb "$CALLS"
  assert_equal "$output" ""
  printf '#!/bin/sh\necho "token $TNR_API_TOKEN"\n' >"$TOOLS/cli"
  chmod +x "$TOOLS/cli"
  ln -sf cli "$TOOLS/tnr"
  run tnr login
  assert_equal "$output" "token bbbb"
}

@test "a machine gets the use of no key, port or screen of the laptop, whatever its ssh configuration says" {
  use ssh
  eval "$(ssh-agent)" >/dev/null
  ssh-add -q "$MACHINE/user_key"
  cat >"$HOME/.ssh/config" <<CONFIG
Host *
  ForwardAgent yes
  ForwardX11 yes
  RemoteForward 127.0.0.1:$((SSHD_PORT + 1)) 127.0.0.1:9
  PermitLocalCommand yes
  LocalCommand touch $HOME/made
  RemoteCommand touch made
  RequestTTY force
CONFIG
  run tnr ssh 0 'ls; echo "${SSH_AUTH_SOCK-no agent}, ${DISPLAY-no screen}"; [[ -t 1 ]] || echo no terminal; (! : </dev/tcp/127.0.0.1/'$((SSHD_PORT + 1))') 2>/dev/null' </dev/null
  ssh-agent -k >/dev/null
  assert_status 0
  assert_equal "$output" $'no agent, no screen\nno terminal'
  [[ ! -e $HOME/made ]]
}

@test "half a command, from a connection that broke, is not run" {
  use local
  run tnr ssh --command-on-stdin 0 <<<'touch half'
  assert_status 255
  [[ ! -e $REMOTE/half ]]
}

@test "a local instance sees neither the tokens nor the environment of the project" {
  use local
  mkdir -p venv/bin
  export HF_TOKEN=aaaa TNR_API_TOKEN=bbbb HUGGING_FACE_HUB_TOKEN=cccc VIRTUAL_ENV=$LAPTOP/venv SOCRATES_THING=1 KEPT=kept
  PATH=$LAPTOP/venv/bin:$PATH run tnr ssh 0 'env' </dev/null
  assert_status 0
  assert_output_has KEPT=kept
  assert_output_has "SOCRATES_INSTANCE=$LAPTOP/instances/0"
  for text in aaaa bbbb cccc VIRTUAL_ENV SOCRATES_THING SOCRATES_BACKEND "top/scripts" "$LAPTOP/venv/bin"; do
    [[ $output != *"$text"* ]] || { echo "the instance sees $text"; return 1; }
  done
}

@test "a machine that cannot be reached is 254, with the reason in the last line" {
  use ssh
  sed -i "s/\"port\": [0-9]*/\"port\": 1/" instances.json
  run tnr ssh 0 true </dev/null
  assert_status 254
  [[ ${lines[-1]} == "tnr: instance 0 ("*"cannot be reached"*"Connection refused"* ]]
  run tnr scp 0:x "$BATS_TEST_TMPDIR/new"
  assert_status 254
  run tnr scp 0 launch_test_run.sh somewhere/
  assert_status 254
  [[ ${lines[-1]} == *"cannot be reached"* ]]
  use local
  rm -rf "$LAPTOP/instances/0/home"
  run tnr ssh 0 true </dev/null
  assert_status 254
}

@test "a connection that is lost midway is 254, for commands and for copies, which go on where they stopped" {
  use ssh
  start_sshd "$BATS_TEST_TMPDIR/another machine" >/dev/null # its connections are ours to kill
  printf '{"0": %s}\n' "$(cat "$BATS_TEST_TMPDIR/another machine/instance.json")" >instances.json
  home="$BATS_TEST_TMPDIR/another machine/home"
  run_and_cut() {
    "$@" >/dev/null 2>"$BATS_TEST_TMPDIR/err" 3>&- &
    wait_for_file "$home/started"
    kill_connections
    status=0
    wait $! || status=$?
    rm "$home/started"
    assert_status 254
    grep -q "connection was lost" "$BATS_TEST_TMPDIR/err"
  }
  run_and_cut tnr ssh 0 'touch started; sleep 120'
  # rsync on the machine stops for a while, then is cut off
  put_rsync "$BATS_TEST_TMPDIR/bin" 'touch ~/started; exec cat >/dev/null'
  printf 'PATH=%q:$PATH\n' "$BATS_TEST_TMPDIR/bin" >"$home/../environment"
  echo 1 >"$home/file"
  run_and_cut tnr scp 0:file ./
  [[ ! -e file ]]
  run_and_cut tnr scp 0 launch_test_run.sh new/
  rm "$home/../environment"
  head -c 20000000 /dev/urandom | tee "$home/big" | head -c 10000000 >part
  mkdir .rsync-partial
  mv part .rsync-partial/big
  tnr scp 0:big ./ 2>"$BATS_TEST_TMPDIR/err"
  cmp big "$home/big"
  [[ ! -e .rsync-partial ]]
}

@test "a copy to which nothing comes any more ends as a lost connection" {
  use ssh
  put_rsync "$BATS_TEST_TMPDIR/bin" 'exec cat >/dev/null'
  printf 'PATH=%q:$PATH\n' "$BATS_TEST_TMPDIR/bin" >"$MACHINE/environment"
  echo 1 >"$REMOTE/file"
  TNR_STALL_SECONDS=2 run timeout 240 tnr scp 0:file ./
  assert_status 254
  [[ ! -e file ]]
}

# bats test_tags=slow
@test "ended by a signal, it leaves no ssh and no files behind" {
  use ssh
  export TMPDIR=$BATS_TEST_TMPDIR/temporary
  mkdir "$TMPDIR"
  tnr ssh 0 'touch started; sleep 120' </dev/null 3>&- &
  wait_for_file "$REMOTE/started"
  child=$(pgrep -x -P $! ssh)
  is_running "$child"
  kill $!
  wait $! || true
  for ((i = 0; i < 3000; i++)); do
    is_running "$child" || break
    sleep 0.02
  done
  [[ $i -lt 3000 && -z $(ls "$TMPDIR") ]]
}

# --- copies ----------------------------------------------------------------------------------------------------------

HOSTILE=('a b' '-n' "it's" 'say "x"' '$HOME' '`id`' 'a;b' 'back\slash' 'a*b' '[x]' '~' 'naïve')

copies_behave() {
  local name
  use "$1"
  mkdir -p "up/sub dir/__pycache__" expected
  for name in "${HOSTILE[@]}"; do echo "$name" >"up/sub dir/$name"; done
  echo hidden >up/.hidden
  echo 1 >"up/sub dir/__pycache__/x.pyc"
  echo 'echo run' >up/run.sh
  chmod 755 up/run.sh
  touch -d 2020-02-02 up/run.sh
  cp -r up expected/up
  rm -rf "expected/up/sub dir/__pycache__"
  ln -s run.sh up/link
  cp up/run.sh expected/up/link

  # contents; into a folder that is there; under a new name; parents are made
  tnr scp 0 up/ "$HOME/x y/contents"
  diff -r expected/up "$REMOTE/x y/contents"
  [[ -x $REMOTE/x\ y/contents/run.sh && ! $REMOTE/x\ y/contents/run.sh -nt up/run.sh && ! -L $REMOTE/x\ y/contents/link ]]
  tnr scp up '0:~/new/name'
  diff -r expected/up "$REMOTE/new/name"
  odd="odd/it's; \$HOME \\ *\"[x]"
  (cd "up/sub dir" && tnr scp "${HOSTILE[@]/#/./}" "0:$odd")
  for name in "${HOSTILE[@]}"; do cmp "up/sub dir/$name" "$REMOTE/$odd/$name"; done

  # and back, in one connection; links stay there
  ln -s run.sh "$REMOTE/new/name/other link"
  ln -s / "$REMOTE/new/name/root"
  mkdir here
  tnr scp -r '0:new/name/' "0:~/x y/contents/.hidden" here/contents
  diff -r expected/up here/contents
  tnr scp '0:new/name' here
  diff -r expected/up here/name
  tnr scp -r "0:$REMOTE/new/name" 'here/deep/er [1]'
  diff -r expected/up 'here/deep/er [1]'
  tnr scp "${HOSTILE[@]/#/0:$odd/}" here/one/
  diff -r "$REMOTE/$odd" here/one
  (($(find here/one -type f | wc -l) == ${#HOSTILE[@]}))
  [[ ! -e "$REMOTE/.rsync-partial" && -z $(find here "$REMOTE" -name '*.tmp') ]]

  # what is not there, what cannot be written, links
  run tnr scp 0:absent here/
  assert_status 1
  assert_output_has absent
  run tnr scp 0 absent there
  assert_status 1
  run tnr scp 0:new/name here/one/a\ b
  assert_status 1
  for target in here/ here/link; do
    run tnr scp '0:new/name/other link' "$target"
    assert_status 1
    assert_output_has "is a link"
  done
  [[ ! -e here/link && ! -e "here/other link" ]]
}

@test "copies to and from a folder of this machine" {
  copies_behave local
}

# bats test_tags=slow
@test "copies to and from an ssh host" {
  copies_behave ssh
}

@test "what a machine says without end while it is copied from ends the copy, and fills no disk" {
  use ssh
  printf 'rsync() { [[ $1 == --version ]] && echo "rsync  version 3.2.7" || yes "rsync: no end" >&2; }; export -f rsync' >"$MACHINE/environment"
  TNR_STALL_SECONDS=2 tnr scp 0:big here/ 2>"$BATS_TEST_TMPDIR/said" </dev/null && return 1
  (($(stat -c %s "$BATS_TEST_TMPDIR/said") < 2000000))
  printf 'echo() { yes; }; export -f echo' >"$MACHINE/environment" # where it is asked what that is
  run timeout 60 tnr scp 0:big here </dev/null
  assert_status 254
}

# All programs but rsync.
without_rsync() {
  NO_RSYNC=$BATS_TEST_TMPDIR/no\ rsync
  mkdir "$NO_RSYNC"
  local folders folder
  IFS=: read -r -a folders <<<"$PATH:/usr/bin:/bin"
  for folder in "${folders[@]:1}"; do ln -s -t "$NO_RSYNC" "$folder"/* 2>/dev/null || true; done # the first one found stays
  rm -f "$NO_RSYNC/rsync"
}

# put_rsync FOLDER BODY: an rsync that does what it says, of a good version unless VERSION says another.
put_rsync() {
  mkdir -p "$1"
  printf '#!/usr/bin/env bash\n[[ $1 != --version ]] || { echo "rsync  version %s  protocol version 31"; exit; }\n%s\n' \
    "${VERSION:-3.2.7}" "$2" >"$1/rsync"
  chmod +x "$1/rsync"
}

@test "without rsync, or with an old one, on either side: nothing is copied, and how to get it is said" {
  use ssh
  echo 1 >"$REMOTE/file"
  refused() {
    for arguments in "0:file new/" "0 launch_test_run.sh new/" "0 launch_test_run.sh new"; do
      # shellcheck disable=SC2086 # several
      run tnr scp $arguments
      assert_status 2
      [[ ${lines[-1]} == "tnr: error: "*"$1" ]] || { echo "said: ${lines[-1]}"; return 1; }
    done
    [[ ! -e new/file && ! -f new && ! -e $REMOTE/new ]]
  }
  there="needs rsync 3.1 or later: ./run_remote_setup.sh 0 installs it, or tnr ssh 0 'sudo apt-get update; sudo apt-get install -y rsync'"
  VERSION=3.0.9 put_rsync "$BATS_TEST_TMPDIR/bin" 'exit 1'
  printf 'PATH=%q:$PATH\n' "$BATS_TEST_TMPDIR/bin" >"$MACHINE/environment"
  refused "$there"
  without_rsync
  printf 'PATH=%q\n' "$NO_RSYNC" >"$MACHINE/environment"
  refused "$there"
  rm "$MACHINE/environment"
  here="needs rsync 3.1 or later here: sudo apt-get install -y rsync (macOS: brew install rsync)"
  PATH=$LAPTOP/scripts:$NO_RSYNC refused "$here"
  VERSION=2.6.9 put_rsync "$TOOLS" 'exit 1'
  refused "$here"
}

@test "scripts/ brings the package and the requirements along, and says so" {
  use local
  mkdir -p "$REMOTE/old"
  for form in "0 scripts/ p/scripts/" "scripts 0:q/" "0 scripts r/scripts"; do
    # shellcheck disable=SC2086
    run tnr scp $form
    assert_status 0
    assert_output_has "also uploading socrates requirements_full_training.txt"
  done
  for place in p q r; do
    [[ -e $REMOTE/$place/scripts/_bootstrap.py && -e $REMOTE/$place/socrates/errors.py && -e $REMOTE/$place/requirements_full_training.txt ]]
    [[ -z $(find "$REMOTE/$place" -name '*.pyc') ]]
  done
  run tnr scp 0 scripts socrates requirements_full_training.txt s/
  assert_status 0
  assert_equal "$output" ""
}

@test "a checkpoint folder is left to the program that verifies it, the files in one are not" {
  use local
  mkdir -p "$REMOTE/m/checkpoint-7" "$REMOTE/m/checkpoint-7b"
  echo 1 >"$REMOTE/m/checkpoint-7/file"
  tnr scp -r 0:m/checkpoint-7/ 'some where'
  assert_equal "$(cat "$CALLS")" "<--from=0:m/checkpoint-7/><--to=some where>"
  : >"$CALLS"
  tnr scp 0:m/checkpoint-7/file 0:m/checkpoint-7b here/
  [[ -e here/file && -d here/checkpoint-7b && ! -s $CALLS ]]
  printf '#!/bin/sh\nexit 254\n' >scripts/download_checkpoint.sh
  run tnr scp 0:m/checkpoint-7 here/
  assert_status 254
  [[ ! -e here/checkpoint-7 ]]
}

@test "a folder that holds checkpoints is not copied as it is, but what an evaluation wrote about one is" {
  use local
  mkdir -p "$REMOTE/p/evaluation_results/run/checkpoint-7" "$REMOTE/p/models/run/checkpoint-7"
  echo 1 | tee "$REMOTE/p/models/run/checkpoint-7/file" "$REMOTE/p/models/run/log" >"$REMOTE/p/evaluation_results/run/checkpoint-7/decision.json"
  for source in p p/models/run/ ''; do
    for target in here/ "new $source"; do
      run tnr scp -r "0:$source" "$target"
      assert_status 1
      assert_output_has "monitor_checkpoints.sh 0 --once"
    done
  done
  assert_equal "$(find . -name 'checkpoint-*' -not -path './instances/*')" ""
  tnr scp 0:p/models/run/log 0:p/models/run/checkpoint-7/file here/
  tnr scp -r 0:p/evaluation_results/run evaluation_results/
  tnr scp -r 0:p/evaluation_results/run/checkpoint-7 other/
  [[ -e here/log && -e here/file && -e evaluation_results/run/checkpoint-7/decision.json && -e other/checkpoint-7/decision.json && ! -s $CALLS ]]
}

# --- Thunder ---------------------------------------------------------------------------------------------------------

@test "an instance that the CLI does not know, or a CLI that wants a terminal: what to do, status 2" {
  use tnr_v2
  run tnr ssh 7 true </dev/null
  assert_status 2
  assert_output_has 'instance "7" not found'
  unset TNR_CONNECT_JSON
  run tnr ssh 0 true </dev/null
  assert_status 2
  assert_output_has "run once in a terminal: $TOOLS/tnr connect 0"
}

@test "create: Thunder's own options go through, others are translated, what is not honoured is said" {
  use_cli tnr_v2
  tnr create --mode prototyping --gpu a6000 --num-gpus 1 --template base --vcpus 4 --primary-disk 100
  assert_equal "$(tail -n 1 "$TNR_CALLS")" "create --mode prototyping --gpu a6000 --num-gpus 1 --template base --vcpus 4 --primary-disk 100 "
  run tnr create --gpu=A100-80GB:4 --disk=500 --name=n --mode prototyping
  assert_status 0
  assert_equal "$(tail -n 1 "$TNR_CALLS")" "create --gpu a100 --num-gpus 4 --mode prototyping --template base --primary-disk 500 "
  assert_output_has '"n" is not used'
  run tnr create --gpu A100:2 --disk 200
  assert_output_has "you get 2 of those, not of 40 GB"
  : >"$TNR_CALLS"
  for arguments in "--gpu A100:" "--disk" "--gpu A100:0" "--gpu A100:4 --num-gpus 2"; do
    # shellcheck disable=SC2086
    run tnr create $arguments
    assert_status 2
  done
  run grep -v help "$TNR_CALLS"
  assert_equal "$output" ""
}

@test "other commands go to the CLI as they are, and the real one is found behind links and copies of ours" {
  use_cli tnr_v2
  run tnr snapshot create 'a b'
  assert_output_has "snapshot create a b"
  ln -s "$LAPTOP/scripts" "$BATS_TEST_TMPDIR/link"
  mkdir "$BATS_TEST_TMPDIR/copy"
  cp "$ROOT/scripts/tnr" "$BATS_TEST_TMPDIR/copy/"
  PATH=$BATS_TEST_TMPDIR/link:$BATS_TEST_TMPDIR/copy:$PATH run timeout 240 tnr login
  assert_output_has login
  rm "$TOOLS/tnr"
  PATH=$BATS_TEST_TMPDIR/link:$BATS_TEST_TMPDIR/copy:$PATH run timeout 240 tnr login
  assert_status 2
}

# --- delete ----------------------------------------------------------------------------------------------------------

@test "delete is refused while checkpoints are only there" {
  for backend in local tnr_v2; do
    use "$backend"
    MISSING="checkpoint-500 of run x" run tnr delete 0 --yes
    assert_status 1
    assert_output_has "checkpoint-500 of run x"
    assert_output_has "--force"
    [[ $backend != local || -d $REMOTE ]]
    run grep '^delete 0' "$TNR_CALLS"
    assert_equal "$output" ""
  done
  # nobody can tell
  printf '#!/bin/sh\nexit 254\n' >scripts/monitor_checkpoints.sh
  run tnr delete 0
  assert_status 2
  run grep '^delete 0' "$TNR_CALLS"
  assert_equal "$output" ""
  run tnr delete 0 --force
  assert_status 0
  assert_equal "$(tail -n 1 "$TNR_CALLS")" "delete 0 --yes " # --force is ours, not handed on
}

# bats test_tags=slow
@test "delete of a local instance ends what runs in it and nothing else, and removes only what create made" {
  use local
  export SOCRATES_BACKEND=local
  tnr create >/dev/null 2>&1
  tnr ssh 0 'nohup sleep 300 >/dev/null 2>&1 & echo $! >pid' </dev/null
  tnr ssh 1 'nohup sleep 300 >/dev/null 2>&1 & echo $! >pid' </dev/null
  zero=$(cat "$REMOTE/pid") one=$(cat instances/1/home/pid)
  echo precious >"$BATS_TEST_TMPDIR/precious"
  ln -s "$BATS_TEST_TMPDIR/precious" "$REMOTE/link"
  run tnr delete 0
  assert_status 0
  ! is_running "$zero" && is_running "$one"
  [[ ! -e instances/0 && -d instances/1 && -e $BATS_TEST_TMPDIR/precious ]]
  run tnr ssh 0 true </dev/null
  assert_status 2
  tnr delete 1
  mkdir -p mine/home
  echo '{"5": {"folder": "mine"}}' >instances.json
  run tnr delete 5
  assert_status 2
  assert_output_has "was not made by tnr create"
  [[ -d mine/home ]]
}

# --- instances.json, status, usage -----------------------------------------------------------------------------------

@test "instances.json: an error names the file and the key" {
  check() {
    printf '%s' "$1" >instances.json
    run tnr ssh 0 true </dev/null
    assert_status 2
    assert_output_has "$LAPTOP/instances.json"
    assert_output_has "$2"
  }
  check '{"0": {"hots": "a"}}' '"0": unknown key "hots", known: host, port'
  check '{"0": {"host": "-oProxyCommand=x"}}' '"host" must be'
  check '{"0": {"host": "a", "port": "22"}}' '"port" must be a number'
  check '{"0": {}}' 'needs either "host" or "folder"'
  check '{"a b": {"host": "x"}}' '"a b"'
  check '{"0": {"host": "a"}, "0": {"host": "b"}}' 'stands there twice'
  check '[]' 'must be an object'
}

@test "an old bash is told what is missing" {
  run bash -c 'BASH_VERSION="3.2.57(1)-release"; source scripts/tnr status' tnr
  assert_status 2
  assert_equal "${lines[*]}" "tnr: error: needs bash 4.4 or later; the one on the PATH is 3.2.57(1)-release (macOS: brew install bash)"
}

@test "two creates at once get two numbers" {
  export SOCRATES_BACKEND=local
  for i in 1 2 3 4; do tnr create --name n >"$BATS_TEST_TMPDIR/id$i" 2>"$BATS_TEST_TMPDIR/said$i" 3>&- & done
  wait
  grep -q "not used: --name n" "$BATS_TEST_TMPDIR/said1"
  assert_equal "$(sort "$BATS_TEST_TMPDIR"/id? | tr '\n' ' ')" "0 1 2 3 "
  assert_equal "$(tnr status | awk '{print $1}' | sort | tr '\n' ' ')" "0 1 2 3 ID "
}

@test "status lists what instances.json names, then Thunder's" {
  use ssh
  use_cli tnr_v2
  sed -i 's/^{/{"box": {"folder": "somewhere"}, /' instances.json
  run timeout 240 tnr status
  assert_status 0
  [[ $output =~ box\ +local\ .*somewhere && $output =~ 0\ +ssh\ .*@127.0.0.1:$SSHD_PORT ]]
  assert_output_has "RUNNING"
}

@test "a machine behind ssh is neither made nor deleted here" {
  use ssh
  export SOCRATES_BACKEND=ssh
  for command in "create --gpu A100:2" "delete 0"; do
    # shellcheck disable=SC2086
    run tnr $command
    assert_status 2
    assert_output_has "rented elsewhere"
  done
}

@test "no backend: the three ways are named" {
  rm -f instances.json
  for command in "ssh 0 true" "create --gpu A100:2" "scp 0 a b" "delete 0" status; do
    # shellcheck disable=SC2086
    PATH=$LAPTOP/scripts:/usr/bin:/bin run tnr $command </dev/null
    assert_status 2
    for way in Thunder ssh local; do assert_output_has "$way:"; done
  done
}

@test "wrong arguments end with 2 before anything happens" {
  use local
  use_cli tnr_v2
  while IFS= read -r line; do
    run bash -c "tnr $line" </dev/null
    assert_status 2
  done <<'LINES'

ssh
ssh -x 0
ssh 'a;b' true
ssh ../0 true
ssh 9 true
scp 0 launch_test_run.sh
scp -z 0:a b
scp 0:a 1:b c
scp 0:a 0:b
scp 0:../a c
scp '' 0:a
delete
delete 0 1
delete '0 '
LINES
  SOCRATES_BACKEND=aws run tnr status
  assert_status 2
  assert_output_has "thunder, ssh or local"
  unset SOCRATES_BACKEND
  [[ -d $REMOTE && ! -s $CALLS ]]
}

@test "activate puts scripts/ first on PATH, once, quietly, from any folder" {
  cd / || return 1
  run bash -euc 'before=$-; source "$1/scripts/activate"; PATH=/x:$PATH; source "$1/scripts/activate"; [[ $- == "$before" ]]; echo "$PATH"' - "$LAPTOP"
  assert_status 0
  [[ $output == "$LAPTOP/scripts:/x:"* && $(tr : '\n' <<<"$output" | grep -cxF "$LAPTOP/scripts") == 1 ]]
  run "$LAPTOP/scripts/activate"
  assert_status 2
  assert_output_has "source scripts/activate"
}
