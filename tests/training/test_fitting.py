"""Memory that is short on one of two ranks: all checkpoint more layers, or all refuse; and nothing else changes."""

import pytest
from processes import assert_refused, logged, train, training_folder
from trainings import WITNESS, change

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return training_folder(
        tmp_path_factory.mktemp("fitting"), steps=2, save_steps=2, training={"logging_steps": 1, "report_to": "none"}
    )


def losses_with(workplace, name, needed, **options):
    """The result of a training that needs so many layers checkpointed, and the losses of its steps."""
    change(workplace, output_dir=f"models/{name}")
    (workplace / "needed").write_text(str(needed))
    done = train(workplace, **options)
    if done.returncode:
        return done, []
    entries = logged(workplace, f"models/{name}/checkpoint-2")
    return done, [(entry["loss"], entry["grad_norm"]) for entry in entries if "loss" in entry]


def test_where_one_rank_runs_out_of_memory_all_checkpoint_more_layers_and_learn_the_same(workplace):
    plain, expected = losses_with(workplace, "plain", 0)
    assert plain.returncode == 0 and "did not fit" not in plain.stdout, plain.stderr
    short, losses = losses_with(workplace, "short", 2, script=WITNESS)
    assert short.returncode == 0, short.stdout + short.stderr
    told = [line for line in short.stdout.splitlines() if "did not fit" in line]
    assert told == [
        f"A micro-batch did not fit on every GPU: {layers} of 2 layers are checkpointed" for layers in (1, 2)
    ]
    assert len(losses) == 2
    for step, other in zip(losses, expected, strict=True):
        assert step == pytest.approx(other, rel=1e-6)


def test_where_all_layers_do_not_suffice_every_rank_refuses_with_the_remedy(workplace):
    done, _ = losses_with(workplace, "never", 3, script=WITNESS)
    assert_refused(done, "out of memory: ", "with all 2 layers checkpointed", '"training.micro_batch_tokens"')
