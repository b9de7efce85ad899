import math

import pytest
import torch

from sslwang.tasks.simclr import SimCLR

SMALL = {"bs": 32, "items": 64, "valid_items": 32, "size": 16}


def test_rows_have_two_views_and_a_name_that_no_other_has():
    one, other, name = SimCLR().under(**SMALL).loaders(0).train.one_batch()
    assert one.shape == other.shape == (32, 3, 16, 16)
    assert len(name.unique()) == 32
    assert not (one == other).flatten(1).all(1).any()


def test_the_name_makes_no_difference_to_the_loss():
    task = SimCLR().under(**SMALL)
    one, other, name = task.loaders(0).train.one_batch()
    outputs = task.learner(0).model.eval()(one, other)
    assert torch.equal(task.loss()(outputs, name), task.loss()(outputs, name.flip(0)))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equal_vectors_have_the_loss_that_is_stated(reduction):
    task = SimCLR().under(loss={"reduction": reduction}, **SMALL)
    assert task.loss()(torch.ones(32, 2, 8)).item() == pytest.approx(task.best_constant(), rel=1e-5)
    assert task.best_constant() == pytest.approx(math.log(63) * (32 if reduction == "sum" else 1))


def test_the_raw_views_keep_their_colours_and_the_hardened_do_not():
    raw, hard = (SimCLR().under(hardened=h, **SMALL).loaders(0).train.one_batch() for h in (False, True))
    gap = [(a.mean((2, 3)) - b.mean((2, 3))).abs().mean() for a, b in (raw[:2], raw[:2][::-1])]
    apart = (raw[0].mean((2, 3)) - raw[1].roll(1, 0).mean((2, 3))).abs().mean()
    assert max(gap) < apart / 3
    assert hard[0].mean((2, 3)).abs().max() < 1e-4


def test_what_was_found_is_shown():
    loader = SimCLR().under(**SMALL).loaders(0).train
    batch = loader.one_batch()
    vectors = torch.eye(32)
    right = loader.dataset.shown(batch, torch.stack([vectors, vectors], 1))
    wrong = loader.dataset.shown(batch, torch.stack([vectors, vectors.roll(1, 0)], 1))
    assert right[3].captions[-1] == "found: image 3"
    assert right[3].right == [None, None, True]
    assert wrong[3].captions[-1] == "found: image 4"
    assert wrong[3].right[-1] is False
