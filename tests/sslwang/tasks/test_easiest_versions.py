"""The easiest version of every task with one picture in is learned to 95 % of what is possible, and generalises."""

import pytest

from diagnose.registry import entries, load
from diagnose.task import Task
from sslwang.learn import held_out_splits, train

STEPS = {
    "patchwork": 200,
    "missing-box": 150,
    "same-position": 150,
    "which-transform": 600,
    "quadrant-rotation": 150,
    "odd-rotation": 300,
    "odd-position": 300,
    "mixup-ratio": 300,
    "split-direction": 150,
    "quadrant": 150,
    "patch-paste": 300,
    "transform-applied": 200,
}
ENTRIES = {e.id: e for e in entries("sslwang.tasks")}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_the_easiest_version_is_learned(name):
    easy = next(iter(load(ENTRIES[name], Task)().under(valid_items=480).easier().values()))
    result = train(easy, STEPS[name], seed=0)
    for split, held_out in held_out_splits(easy).items():
        outputs = []
        valid = held_out.loaders(0).valid
        model = result.learner.model.eval()
        for picture, target in valid:
            outputs.append(held_out.score(model(picture).detach(), target))
        score = sum(outputs) / len(outputs)
        least = 0.95 if split == "region" else 0.85
        assert (score - easy.chance) / (1 - easy.chance) >= least, (split, score)
