"""The command `sslwang pretrain`."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

SMALL = ["--size=16", "--bs=8", "--set=items=16", "--set=valid_items=8", "--device=cpu"]


@pytest.fixture
def run(sslwang):
    return partial(sslwang, "pretrain")


def record():
    (path,) = Path("pretrained").glob("*/*/run.json")
    return json.loads(path.read_text())


def test_it_is_refused_without_a_pass(run):
    code, out, err = run("--task=unmix", *SMALL)
    assert (code, out) == (4, "")
    assert "unmix was not examined yet below reports; run `diagnose run --task unmix --set size=16 --set bs=8" in err
    assert not Path("pretrained").exists()


def test_without_the_gate_it_trains_and_the_run_says_so(run):
    code, out, err = run("--task=unmix", *SMALL, "--epochs=2", "--no-gate", "--lr=0.03", "--seed=4")
    assert code == 0
    told = record()
    assert told["gate"] == {"skipped": "--no-gate"}
    assert (told["seed"], told["settings"]["lr"], told["epochs"]) == (4, 0.03, 2)
    assert "2 epochs of 16 items, 4 batches of 8" in err
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("epoch")] == ["epoch 1", "epoch 2"]
    assert "next: sslwang transfer --from pretrained/unmix/" in out


def test_settings_come_from_a_file_and_what_is_said_goes_over_them(run, tmp_path):
    (tmp_path / "own.toml").write_text('lr = 0.5\nn = 4\n[encoder]\nnorm = "batch"\n[data]\nshift = 1\n')
    run("--task=unmix", *SMALL, "--epochs=1", "--no-gate", "--settings=own.toml", "--lr=0.02", "--set=data.shift=2")
    told = record()["settings"]
    assert (told["lr"], told["n"], told["encoder.norm"], told["data.shift"]) == (0.02, 4, "batch", 2)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name a task: --task unmix"),
        (["--task=unmixx"], "--task unmixx: no such task"),
        (["--task=unmix", "--set=lr"], "--set lr: write NAME=VALUE"),
        (["--task=unmix", "--lr=0.1", "--set=lr=0.2"], "--set lr=0.2: but an option says 0.1"),
        (["--task=unmix", "--settings=none.toml"], "--settings none.toml: cannot be read"),
        (["--task=unmix", "--settings=bad.toml"], "--settings bad.toml: not TOML"),
        (["--task=unmix", "--settings=odd.toml"], "--set colour=red: no such setting"),
        (["--task=unmix", "--fp16", "--bf16"], "--fp16 --bf16: give one of them"),
        (["--task=unmix", "--examine", "--no-gate"], "--examine --no-gate: give one of them"),
        (["--task=unmix", "--save-every=soon"], "--save-every soon: write it as 60s"),
        (["--task=unmix", "--budget=long"], "--budget long: write it as 60s"),
        (["--task=unmix", "--max-age=old"], "--max-age old"),
        (["--task=unmix", "--no-gate", "--arch=resnet19"], "encoder.arch=resnet19: no such encoder"),
        (["--task=unmix", "--no-gate", "--data=nowhere"], "nowhere"),
        (["--task=unmix", "--no-gate", "--epochs=1", "--steps=1"], "give --epochs or --steps"),
        (["--resume=last"], "no run in pretrained was interrupted"),
        (["--resume=nowhere"], "--resume nowhere: no run is there"),
        *(
            (["--resume=last", option], f"the gate was asked when the run began; leave out {option.split('=')[0]}")
            for option in (
                *("--no-gate", "--examine", "--reports=reports", "--max-age=7d", "--allow-warnings"),
                *("--budget=10m", "--budget=long"),
            )
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(run, tmp_path, args, said):
    (tmp_path / "bad.toml").write_text("lr = = 1")
    (tmp_path / "odd.toml").write_text('colour = "red"')
    code, out, err = run(*args, *([] if any(a.startswith("--resume") for a in args) else SMALL))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("pretrained").exists()


def interrupted(folder, *args):
    """A command that was sent SIGTERM when it had begun to train: (exit code, stderr)."""
    command = [sys.executable, "-m", "sslwang", "pretrain", "--task=unmix", *SMALL, "--no-gate", *args]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        while not list(Path(folder, "pretrained").glob("*/*/state/*.manifest.json")):  # a first epoch was saved
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err


@pytest.mark.slow
def test_it_goes_on_after_sigterm_and_refuses_to_go_on_otherwise(run, tmp_path):
    code, err = interrupted(tmp_path, "--epochs=400")
    assert code == 143
    assert "go on with: sslwang pretrain --resume pretrained/unmix/" in err
    assert not record()["finished"]
    for args, said in (
        (["--lr=0.3"], "lr was 0.1, not 0.3"),
        (["--epochs=7"], "epochs was 400, not 7"),
        (["--seed=2"], "seed was 0, not 2"),
        (["--set=n=4"], "n was 3, not 4"),
    ):
        code, _, err = run("--task=unmix", *SMALL, *args, "--resume=last")
        assert code == 2
        assert said in err
    steps, (folder,) = record()["steps"], Path("pretrained/unmix").iterdir()
    told = json.loads((folder / "run.json").read_text())
    told["options"]["epochs"] = told["epochs"] = steps // 2 + 2  # else it would take long
    (folder / "run.json").write_text(json.dumps(told))
    code, out, err = run("--task=unmix", *SMALL, f"--epochs={told['epochs']}", "--resume=last")
    assert code == 0, err
    assert f"from batch {steps}" in err
    assert record()["finished"]
    assert str(folder) in out


@pytest.mark.slow
@pytest.mark.parametrize("given", [["--set=items=20"], ["--set=items=20", "--set=bs=4"], []])
def test_of_a_number_of_steps_the_command_itself_goes_on(run, given):
    """`--steps` makes of the items of an epoch what its batches need."""
    args = ["--task=quadrant", "--size=16", "--bs=4", "--set=valid_items=8", "--device=cpu", "--no-gate", "--steps=12"]
    code, _, err = run(*args, *given)
    assert code == 0, err
    (path,) = Path("pretrained").glob("*/*/run.json")
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "finished": False}))
    args.remove("--no-gate")
    code, _, err = run(*args, "--set=items=8", "--resume=last")
    assert code == 2
    assert "items was" in err
    code, _, err = run(*args, *given, "--resume=last")
    assert code == 0, err


def test_help_answers_without_torch():
    code = (
        "import sys; sys.argv = ['sslwang', 'pretrain', '--help']\n"
        "from sslwang.cli import app\n"
        "try: app()\nexcept SystemExit as e: assert not e.code\n"
        "assert 'torch' not in sys.modules and 'fastai' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "sslwang pretrain --task unmix --examine --epochs 2" in " ".join(done.stdout.split())
