"""batch-sizes: F29 (squeeze drops a batch of one), F14 (every number of sources builds and has its shape)."""

import pytest
import torch
from judging import check_of, judge_never_raises, judged, measured
from learners import digits, small_cnn
from torch import nn

from diagnose.checks.batch_sizes import follows
from diagnose.evidence import Evidence, EvidenceList
from diagnose.lab import Lab
from diagnose.subject import from_task

ID = "batch-sizes"


class Then(nn.Module):
    def __init__(self, then, outputs=10):
        super().__init__()
        self.body, self.then = small_cnn(outputs), then

    def forward(self, x):
        return self.then(self.body(x))


class OneNumber(nn.Module):
    def forward(self, out, y):
        return nn.functional.mse_loss(out, y.float())


def squeezed(x):
    return x.squeeze()


def last_axis_squeezed(x):
    return x.squeeze(-1)


def in_pairs(x):
    a, b = x.view(2, -1, x.shape[1])
    return torch.cat([a, b])


def test_model_of_pairs_passes():
    assert judged(ID, digits(model=Then(in_pairs))).status == "pass"


def test_f29_squeeze_drops_a_batch_of_one():
    status, summary = judged(ID, digits(model=Then(squeezed, 1), loss_func=OneNumber()))
    assert status == "warn"
    assert "1 row" in summary
    assert judged(ID, digits(model=Then(last_axis_squeezed, 1), loss_func=OneNumber())).status == "pass"


def test_f29_model_that_raises_for_one_row():
    def refuses(x):
        if len(x) == 1:
            raise ValueError("no batch of one")
        return x

    status, summary = judged(ID, digits(model=Then(refuses)))
    assert status == "warn"
    assert "no batch of one" in summary


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_f14_every_number_of_sources_has_its_shape(n):
    settings = {"n": str(n), "target": "regression", "size": "32", "items": "96", "valid_items": "48"}
    lab = Lab(from_task("unmix", settings, 0))
    evidence = check_of(ID).measure(lab)
    assert evidence.get("shape", "16 rows") == f"16×{n}"
    assert evidence.get("shape", "1 row") == f"1×{n}"
    assert check_of(ID).judge(evidence).status == "pass"


def test_follows():
    assert follows([(16, 10)], [(2, 10)], 16, 2)
    assert follows([(16, 16)], [(2, 2)], 16, 2)
    assert follows([(48, 5)], [(6, 5)], 16, 2)
    assert not follows([(16, 1)], [(1,)], 16, 1)
    assert not follows([(16, 10)], [(16, 10)], 16, 2)


def test_judge():
    judge_never_raises(ID, measured(ID, digits()))
    assert check_of(ID).judge(EvidenceList([Evidence(name="shape", value="16×1", where="16 rows")])).status == "skip"
