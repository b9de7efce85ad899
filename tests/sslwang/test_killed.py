"""Pretraining that is killed by SIGKILL and goes on ends with the weights of one that never was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "killed.py"
TRIALS = 20


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_twenty_moments_it_ends_with_the_same_weights(tmp_path):
    """One-cycle, gradients of two batches added up, batch norm, dropout, Watch; killed within batches, within writes of
    checkpoints, weights, the record and what is recorded, and some of them twice."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "0", str(TRIALS)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    trials = told["trials"]
    assert len(trials) == TRIALS
    assert [t["hash"] for t in trials] == [told["hash"]] * TRIALS
    assert [t["history"] for t in trials] == [told["history"]] * TRIALS
    assert sum(len(t["kills"]) > 1 for t in trials) >= 2
    assert len({t["kills"][0] for t in trials}) > TRIALS // 2
    assert [t["left"] for t in trials] == [[]] * TRIALS
