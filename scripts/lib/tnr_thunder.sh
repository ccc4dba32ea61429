# shellcheck shell=bash
# Thunder's CLI of today (version 2): it has no `ssh`, and its own scp does not say when it was cut off. `tnr connect ID`
# writes a `Host tnr-ID` entry for ssh; from then on everything goes over plain ssh.

# Whether ssh has an entry for the instance: it then has another name or address for it.
knows_alias() {
  local name
  name=$(ssh -G "tnr-$1" 2>/dev/null | sed -n 's/^hostname //p') || return 1
  [[ -n $name && $name != "tnr-${1,,}" ]]
}

# IDs are given again: the entry of a deleted instance leads to a machine of someone else, until ssh's config is newer.
stale_mark() {
  printf '%s/socrates/stale-tnr-%s' "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}" "$1"
}

# Makes sure that ssh knows the instance.
know_thunder_host() {
  local id=$1
  command -v ssh >/dev/null || die "needs ssh on the PATH"
  ! knows_alias "$id" || [[ $(stale_mark "$id") -nt ${HOME:-}/.ssh/config ]] || return 0
  note "tnr: asking Thunder's CLI how instance $id is reached: tnr connect $id"
  if "$CLI" connect "$id" --json >"$WORK/connect.log" 2>&1 </dev/null && knows_alias "$id"; then
    rm -f -- "$(stale_mark "$id")"
    return
  fi
  tail -n 5 "$WORK/connect.log" | tr -d '\r\0' >&2
  die "ssh does not know instance $id yet; run once in a terminal: $CLI connect $id"
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
  [[ -z $disk ]] || arguments+=(--primary-disk "$disk")
  for flag in name region; do
    [[ -z ${!flag} ]] || note "tnr: Thunder's CLI has no --$flag: \"${!flag}\" is not used"
  done
  note "tnr: running: tnr create ${arguments[*]}"
  exec "$CLI" create "${arguments[@]}"
}

# delete_on_thunder ID YES: asks nothing where nobody can answer: the guide's `tnr delete 0` in a script.
delete_on_thunder() {
  local arguments=()
  if [[ -n $2 || ! -t 0 ]] && cli_knows --yes delete; then arguments+=(--yes); fi
  "$CLI" delete "$1" "${arguments[@]}" || exit "$?"
  mkdir -p -- "$(dirname -- "$(stale_mark "$1")")" && : >"$(stale_mark "$1")"
}
