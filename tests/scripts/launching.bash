# shellcheck shell=bash
# For the bats tests of setup and launch: a laptop's folder (LAPTOP) with instance 0, a folder of this machine (THERE is
# the project's folder on it), a tiny model's shape and two rows of data. Only what a GPU would do is a stand-in.

make_laptop() {
  unset VIRTUAL_ENV HF_TOKEN TNR_API_TOKEN SOCRATES_ROOT SOCRATES_BACKEND CUDA_VISIBLE_DEVICES DS_ACCELERATOR
  export HOME=$BATS_TEST_TMPDIR/home OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
  LAPTOP="$BATS_TEST_TMPDIR/lap top"
  mkdir -p "$HOME" "$LAPTOP/models/tiny" "$LAPTOP/data/socsci210_full"
  cd "$LAPTOP" || return 1
  for part in scripts socrates venv requirements_full_training.txt run_remote_setup.sh launch_test_run.sh deepspeed_config_test.json; do
    ln -s "$ROOT/$part" .
  done
  "$ROOT/venv/bin/python" - "$ROOT" <<'MAKE'
import json, sys
from pathlib import Path
root = Path(sys.argv[1])
for name in ("config_full_dataset.json", "config_500step_validation.json", "config_test_run.json"):
    config = json.loads((root / name).read_text())
    Path(name).write_text(json.dumps({**config, "model_name": "models/tiny"}))
Path("deepspeed_config.json").write_text((root / "deepspeed_config.json").read_text())
shape = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
             vocab_size=16)
Path("models/tiny/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
Path("models/tiny/config.json").write_text(json.dumps(shape))
for part in ("train", "val"):
    Path(f"data/socsci210_full/{part}.jsonl").write_text("{}\n{}\n")
MAKE
  SOCRATES_BACKEND=local ./scripts/tnr create >/dev/null 2>&1
  THERE=$LAPTOP/instances/0/home/socrates-training
  mkdir -p "$THERE"
}

# As run_remote_setup.sh leaves it.
set_machine_up() {
  mkdir -p "$THERE/stand-in/deepspeed/launcher" "$THERE/models"
  cp "$ROOT/tests/fixtures/fake_runner.py" "$THERE/stand-in/deepspeed/launcher/runner.py"
  cp "$THERE/stand-in/deepspeed/launcher/"{runner,launch}.py
  touch "$THERE/stand-in/deepspeed/__init__.py" "$THERE/stand-in/deepspeed/launcher/__init__.py"
  printf 'DS_ACCELERATOR=cpu\nPYTHONPATH=%s\n' "$THERE/stand-in" >"$THERE/machine.env"
  ln -s "$ROOT/venv" "$THERE/venv"
  cp -r data "$THERE/"
  cp -r models/tiny "$THERE/models/"
}

# Changes a config: `change FILE KEY VALUE`, the value as JSON.
change() {
  "$ROOT/venv/bin/python" -c 'import json, sys; from pathlib import Path
path, key, value = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))' "$@"
}

# What was started over ssh is ended by its supervisor.
delete_machine() {
  [[ -d ${LAPTOP:-/nonexistent}/instances/0 ]] || return 0
  cd "$LAPTOP" || return
  [[ ! -e $THERE/.run ]] || (cd "$THERE" && venv/bin/python scripts/supervise.py stop >/dev/null 2>&1) || true
  SOCRATES_BACKEND=local ./scripts/tnr delete 0 --yes --force </dev/null >/dev/null 2>&1 || true
}

# Another name of instance 0: the same folder behind a real sshd.
add_ssh_instance() {
  start_sshd "$LAPTOP/instances/0" >/dev/null
  change instances.json 1 "$(<instances/0/instance.json)"
}
