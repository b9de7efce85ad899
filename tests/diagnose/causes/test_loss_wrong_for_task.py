"""A binary loss on classes: named and proven, also where it raises; flags, ranks and soft targets are left alone."""

import pytest
from learners import digits, small_cnn
from naming import examined, fault_of, findings_of, is_left_alone, is_named, settled, stands_any_evidence, with_fault
from odd_subjects import binary_column, learner, several_images
from torch import nn
from torch.nn import functional as F

from diagnose.faults._items import alter

ID = "loss-wrong-for-task"


class Flat(nn.Module):
    """A loss function of one column against one row."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, pred, y):
        return self.loss(pred[:, 0], y.to(pred.dtype))


@pytest.mark.parametrize("seed", [0, 1])
def test_binary_cross_entropy_of_class_indices_is_named(seed):
    first = is_named(with_fault("binary-loss-on-classes", digits, seed), ID)
    assert "CrossEntropyLossFlat" in first.fix.code


@pytest.mark.parametrize("seed", [0, 1])
def test_binary_cross_entropy_of_numbers_is_named(seed):
    learn = digits(seed, model=small_cnn(1), loss_func=Flat(F.binary_cross_entropy_with_logits), lr=1e-2)
    alter(learn, lambda inputs, targets, i: (inputs, [(inputs[0].mean() - 0.3) * 40]))
    first = is_named(examined(learn, seed), ID)
    assert "MSELossFlat" in first.fix.code


@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_that_raises_on_class_indices_is_named(seed):
    learn = digits(seed)
    fault_of("flags-loss-on-classes").inject(learn)
    diagnosis = examined(learn, seed)
    assert diagnosis.causes[0].id == ID
    assert settled(ID, learn, diagnosis, seed).proven


def test_a_softmax_over_several_labels_is_told_and_not_proven():
    learn = several_images()
    learn.loss_func = nn.CrossEntropyLoss()
    diagnosis = examined(learn)
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert not [c.id for c in diagnosis.causes if c.proven]


def test_flags_are_left_alone():
    is_left_alone(examined(binary_column()), ID)


def test_ranks_under_a_squared_error_are_left_alone():
    is_left_alone(examined(digits(model=small_cnn(1), loss_func=Flat(F.mse_loss), lr=1e-2)), ID)


def test_soft_targets_on_the_unit_interval_are_left_alone():
    items = [(x, x.mean(dim=(1, 2)) * 1.5) for x, _ in (d for d in digits().dls.train.dataset)]
    learn = learner(items[:256], small_cnn(1), nn.BCEWithLogitsLoss())
    assert all(0 <= float(y) <= 1 for _, y in items[:256])
    is_left_alone(examined(learn), ID)


def test_evidence_alone():
    stands_any_evidence(ID, findings_of(with_fault("binary-loss-on-classes", digits)), numbers=False)
