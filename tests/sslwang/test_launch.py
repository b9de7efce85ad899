"""Two processes train one net, as `accelerate launch` starts them (both it and torchrun run torch.distributed.run)."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sslwang.pretrain import pretrain, task_of

SETTINGS = {"size": 16, "items": 64, "valid_items": 16, "opt": "sgd", "lr": 0.05}
LAUNCHED = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "sslwang", "pretrain")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]


def launched(folder, *args):
    named = [f"--set={n}={v}" for n, v in SETTINGS.items()]
    command = [sys.executable, *LAUNCHED, "--task=quadrant", "--bs=8", *named, "--device=cpu", *args]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)


def test_two_processes_end_where_one_with_twice_the_batch_ends(tmp_path):
    done = launched(tmp_path, "--epochs=2", "--no-gate", "--out=out")
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "out" / "quadrant").iterdir()  # only the first process writes
    assert done.stdout.count(str(folder.relative_to(tmp_path))) == 2  # where it is, and the command that uses it: once
    record = json.loads((folder / "run.json").read_text())
    assert (record["processes"], record["steps"], record["finished"]) == (2, 8, True)
    alone = pretrain(task_of("quadrant", {**SETTINGS, "bs": 16}), tmp_path / "alone", gate="skip", epochs=2)
    assert alone.steps == 8
    theirs, ours = load_file(folder / "model.safetensors"), load_file(alone.path / "model.safetensors")
    began = task_of("quadrant", {**SETTINGS, "bs": 16}).learner(0).model.state_dict()
    assert theirs.keys() == ours.keys()
    for name in ours:
        moved = (ours[name] - began[name]).abs().max()
        assert (theirs[name] - ours[name]).abs().max() < 0.02 * moved + 1e-6, name
    assert record["history"][-1]["valid_loss"] == pytest.approx(alone.record["history"][-1]["valid_loss"], rel=1e-3)


def test_if_the_gate_refuses_all_of_them_end_and_one_says_why(tmp_path):
    done = launched(tmp_path, "--epochs=1")
    assert done.returncode != 0
    assert done.stderr.count("no pretraining without a pass") == 1
    assert "exitcode  : 4" in done.stderr
    assert list(tmp_path.iterdir()) == []
