# shellcheck shell=bash
# Thunder's CLI of today (version 2): it has no `ssh`, and its own scp does not say when it was cut off. `tnr connect ID`
# writes a `Host tnr-ID` entry for ssh; from then on everything goes over plain ssh.

# Whether ssh has an entry for the instance: it then has another name or address for it.
knows_alias() {
  local name
  name=$(ssh -G "tnr-$1" 2>/dev/null | sed -n 's/^hostname //p') || return 1
  [[ -n $name && $name != "tnr-${1,,}" ]]
}

# IDs are given again: the entry of a deleted instance leads to a machine of someone else.
stale_mark() {
  cache_file "stale-tnr-$1"
}

# Makes sure that ssh knows the instance.
know_thunder_host() {
  local id=$1 limit=()
  command -v ssh >/dev/null || die "needs ssh on the PATH"
  [[ -e $(stale_mark "$id") ]] || ! knows_alias "$id" || return 0
  note "tnr: asking Thunder's CLI how instance $id is reached: tnr connect $id"
  # Newer ones print JSON and end; older ones want a terminal, and open a session.
  ! command -v timeout >/dev/null || limit=(timeout -k 5 60)
  : >"$WORK/before"
  if "${limit[@]}" "$CLI" connect "$id" --json >"$WORK/connect.log" 2>&1 </dev/null && knows_alias "$id" || connect_at_terminal "$id"; then
    rm -f -- "$(stale_mark "$id")"
    return
  fi
  tail -n 5 "$WORK/connect.log" | tr -d '\r\0' >&2
  die "ssh does not know instance $id yet; run once in a terminal: $CLI connect $id"
}

# `tnr connect` at a terminal of its own, until ssh knows the instance (anew); what it opened is then ended.
connect_at_terminal() {
  local id=$1 connecting tries known=''
  command -v script >/dev/null || return 1
  script -qefc "$(printf '%q connect %q' "$CLI" "$id")" /dev/null >"$WORK/connect.log" 2>&1 </dev/null &
  connecting=$!
  for ((tries = 0; tries < 300; tries++)); do
    if knows_alias "$id" && [[ ! -e $(stale_mark "$id") || ${HOME:-}/.ssh/config -nt $WORK/before ]]; then
      known=1
      break
    fi
    kill -0 "$connecting" 2>/dev/null || break
    sleep 0.2
  done
  kill "$connecting" 2>/dev/null || true
  [[ -n $known ]]
}

# Translates the guide's `tnr create` of Thunder's first CLI into that of the second.
create_on_thunder() {
  local arguments=() name='' region='' gpu='' disk='' count='' memory='' flag value given=" $* " own=("$@")
  while (($#)); do
    flag=${1%%=*} value=''
    case $flag in
      --name | --region | --gpu | --disk)
        if [[ $1 == *=* ]]; then value=${1#*=}; else need_value "$@"; value=$2; shift; fi
        [[ -n $value ]] || die_usage "create: $flag needs a value"
        ;;
    esac
    case $flag in
      --name) name=$value ;;
      --region) region=$value ;;
      --gpu) gpu=$value ;;
      --disk) disk=$value ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  # Its own grammar: nothing of ours in it.
  if [[ -z $name$region$disk && $gpu != *[:A-Z]* ]]; then
    exec "$CLI" create "${own[@]}"
  fi
  if [[ -n $gpu ]]; then
    [[ $gpu =~ ^([A-Za-z0-9]+)(-([0-9]+)[Gg][Bb])?(:([1-9][0-9]*))?$ ]] ||
      die_usage "create: --gpu $gpu: not of the form A100-80GB:4"
    count=${BASH_REMATCH[5]} memory=${BASH_REMATCH[3]} gpu=${BASH_REMATCH[1],,}
    if [[ $gpu != a100 ]]; then
      [[ -z $memory ]] || note "tnr: Thunder's CLI has no choice of memory: \"$memory GB\" is not used"
    elif [[ $memory != 80 ]]; then
      note "tnr: Thunder's A100 is the one of 80 GB today: you get ${count:-1} of those, not of 40 GB"
    fi
    if [[ $given != *" --num-gpus"* ]]; then
      arguments=(--num-gpus "${count:-1}" "${arguments[@]}")
    elif [[ -n $count ]]; then
      die_usage "create: the number of GPUs is given twice: :$count and --num-gpus"
    fi
    arguments=(--gpu "$gpu" "${arguments[@]}")
  fi
  [[ $given == *" --mode"* ]] || arguments=(--mode production "${arguments[@]}")
  [[ $given == *" --template"* ]] || arguments+=(--template base)
  [[ -z $disk ]] || arguments+=("$(disk_option)" "$disk")
  honour_or_say name "$name"
  honour_or_say region "$region"
  note "tnr: running: tnr create ${arguments[*]}"
  exec "$CLI" create "${arguments[@]}"
}

disk_option() {
  local option
  for option in --primary-disk --disk-size-gb --disk; do
    if cli_knows "$option" create; then
      printf '%s' "$option"
      return
    fi
  done
  printf '%s' --primary-disk
}

# An option of the guide that not every CLI has.
honour_or_say() {
  [[ -n $2 ]] || return 0
  if cli_knows "--$1" create; then
    arguments+=("--$1" "$2")
  else
    note "tnr: Thunder's CLI has no --$1: \"$2\" is not used"
  fi
}

delete_on_thunder() {
  local arguments=()
  # Asked nothing where nobody can answer: the guide's `tnr delete 0` in a script. The guard has been satisfied.
  if [[ -n $YES$FORCE || ! -t 0 ]] && cli_knows --yes delete; then arguments+=(--yes); fi
  "$CLI" delete "$DELETED_ID" "${arguments[@]}" || exit "$?"
  make_empty "$(stale_mark "$DELETED_ID")"
}
