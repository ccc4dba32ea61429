# shellcheck shell=bash
# A real sshd on 127.0.0.1 as the current user, root or not, whose one "machine" is a folder: FOLDER/home is its home.
# For bats tests and plain bash scripts:
#   start_sshd FOLDER [PORT]   makes FOLDER/home, starts it, sets SSHD_PORT and SSHD_PID, and prints the entry for
#                              instances.json, which is also in FOLDER/instance.json. Started again, keys and home stay.
#   stop_sshd [FOLDER]         ends it with all its connections (the last one started, or that of FOLDER)
#   kill_connections           kills the connections, not the sshd; what their commands started goes on
# The account's shell (bash, or LOGIN_SHELL) reads FOLDER/home/.bashrc, as from any sshd.
# A file FOLDER/environment, if there, is sourced before each command (for example: PATH=/somewhere:$PATH).

start_sshd() {
  local folder port=${2:-} program
  mkdir -p "$1/home"
  folder=$(cd "$1" && pwd)
  program=$(command -v sshd || echo /usr/sbin/sshd)
  [[ -x $program ]] || { echo "start_sshd: needs sshd (Debian: openssh-server)" >&2; return 1; }
  [[ $EUID != 0 ]] || mkdir -p /run/sshd # it insists, as root
  [[ -e $folder/host_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$folder/host_key"
  [[ -e $folder/user_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$folder/user_key"
  cat >"$folder/enter" <<ENTER
export HOME=$(printf %q "$folder/home")
cd "\$HOME" || exit 255
[[ ! -e ../environment ]] || { set -a; source ../environment; set +a; }
if [[ -z \${SSH_ORIGINAL_COMMAND+x} ]]; then exec bash -l; fi
line=\$SSH_ORIGINAL_COMMAND
unset SSH_ORIGINAL_COMMAND
exec env SHLVL=0 "\${LOGIN_SHELL:-bash}" -c "\$line"
ENTER
  SSHD_PORT=${port:-$(_free_port)}
  # SHLVL: bash then leaves out the .bashrc of who runs the tests, which is no part of the test. The key exchange is the quickest.
  cat >"$folder/sshd_config" <<CONFIG
SetEnv SHLVL=1
KexAlgorithms curve25519-sha256
ListenAddress 127.0.0.1:$SSHD_PORT
HostKey "$folder/host_key"
AuthorizedKeysFile "$folder/user_key.pub"
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
UseDNS no
PrintMotd no
PrintLastLog no
ForceCommand bash "$folder/enter"
CONFIG
  "$program" -D -e -f "$folder/sshd_config" </dev/null >>"$folder/sshd.log" 2>&1 3>&- &
  SSHD_PID=$!
  disown "$SSHD_PID"
  _await_sshd || { echo "start_sshd: did not start; its log:" >&2; tail -n 5 "$folder/sshd.log" >&2; return 1; }
  printf '%s\n' "$SSHD_PID" >"$folder/sshd.pid"
  rm -f "$folder/known_hosts"
  cat >"$folder/instance.json" <<ENTRY
{"host": "$(id -un)@127.0.0.1", "port": $SSHD_PORT, "identity": "$folder/user_key", "options": ["StrictHostKeyChecking=accept-new", "UserKnownHostsFile=\"$folder/known_hosts\""]}
ENTRY
  cat "$folder/instance.json"
}

stop_sshd() {
  local listener=${SSHD_PID:-} wait
  [[ -z ${1:-} ]] || listener=$(cat "$1/sshd.pid" 2>/dev/null) || return 0
  [[ -n $listener ]] || return 0
  _kill_sessions "$listener"
  kill "$listener" 2>/dev/null || return 0
  for ((wait = 0; wait < 1000; wait++)); do
    kill -0 "$listener" 2>/dev/null || return 0
    sleep 0.02
  done
  kill -9 "$listener" 2>/dev/null || true
}

kill_connections() {
  _kill_sessions "$SSHD_PID"
}

# The sshd processes below one, not the commands that they run.
_kill_sessions() {
  local child
  for child in $(ps -o pid= --ppid "$1"); do
    [[ $(cat "/proc/$child/comm" 2>/dev/null) == sshd* ]] || continue
    _kill_sessions "$child"
    kill -9 "$child" 2>/dev/null || true
  done
}

_await_sshd() {
  local wait
  for ((wait = 0; wait < 6000; wait++)); do
    kill -0 "$SSHD_PID" 2>/dev/null || return 1
    if (: <"/dev/tcp/127.0.0.1/$SSHD_PORT") 2>/dev/null; then
      # Answered by another program that had the port, while ours gives up?
      sleep 0.02
      kill -0 "$SSHD_PID" 2>/dev/null
      return
    fi
    sleep 0.02
  done
  return 1
}

# Outside of the range that outgoing connections get theirs from: one of these could have it while our sshd is down.
_free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)) && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  printf '%s' "$port"
}
