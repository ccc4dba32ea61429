# shellcheck shell=bash
# Sourced by the scripts that work on a rented machine; after common.sh, in the project's folder.
# Everything goes through scripts/tnr, which alone knows how a machine is reached.

REMOTE_ROOT=socrates-training # in the machine's home folder, as in the guide
NOT_REACHED=254               # tnr's exit status where there is no connection
export SOCRATES_ROOT

# All that a training machine needs of the project.
CODE=(scripts socrates config_full_dataset.json config_500step_validation.json config_test_run.json deepspeed_config.json
  deepspeed_config_test.json requirements_full_training.txt launch_test_run.sh)

tnr() {
  "$SOCRATES_ROOT/scripts/tnr" "$@"
}

# The token for the model hub; its value is looked at for its form only. A model that is a folder needs none.
check_token() {
  local problem=''
  case ${HF_TOKEN:-} in
    '') problem="is not set: export HF_TOKEN=\"hf_...\" (made on huggingface.co under Settings, Access Tokens)" ;;
    your_* | YOUR_*) problem="is still the guide's placeholder: export your own" ;;
    *[[:space:]]*) problem="holds white space: export it again" ;;
  esac
  [[ -n $problem ]] || return 0
  [[ -d $1 || $1 == [/.~]* ]] || die "HF_TOKEN $problem"
  HF_TOKEN=''
}

# on_machine ID COMMAND: runs it in the project's folder there.
on_machine() {
  tnr ssh "$1" "cd ~/$REMOTE_ROOT && $2"
}

# send ID SOURCE... TARGET: the target is relative to the project's folder there.
send() {
  local instance=$1 target=${*: -1}
  tnr scp -r "${@:2:$#-2}" "$instance:$REMOTE_ROOT/$target" || die "instance $instance: the upload of ${*:2:$#-2} failed"
}

reach() {
  local status=0
  tnr ssh "$1" "mkdir -p ~/$REMOTE_ROOT" </dev/null || status=$?
  ((status != NOT_REACHED)) || die "instance $1 cannot be reached; look at \`tnr status\`"
  ((status == 0)) || die "instance $1 cannot be used: see the message above"
}

# The same as on_machine, but ends the script where there is no connection any more.
step_on_machine() {
  local status=0
  on_machine "$@" || status=$?
  ((status != NOT_REACHED)) || die "the connection to instance $1 was lost; run the same command again"
  return "$status"
}

# Code must not change under a training that runs.
refuse_while_training() {
  local running
  running=$(running_training "$1") || die "instance $1: cannot tell whether a training runs there"
  [[ -z $running ]] || die "a training is running on instance $1 (${running%%$'\n'*}); wait for it, or stop it:
  tnr ssh $1 'cd ~/$REMOTE_ROOT && venv/bin/python scripts/supervise.py stop'"
}

# Prints who trains on the machine, a line each.
running_training() {
  on_machine "$1" "$(<"$SOCRATES_ROOT/scripts/lib/trainings.sh")" </dev/null
}

# send_code ID [FILE...]: code, the guide's configs, and further files, all as they are here now.
send_code() {
  local instance=$1 source sources=()
  for source in "${CODE[@]}" "${@:2}"; do [[ ! -e $source ]] || sources+=("$source"); done
  send "$instance" "${sources[@]}" ./
}
