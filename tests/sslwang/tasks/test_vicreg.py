import pytest
import torch

from sslwang.tasks.vicreg import VICReg

SMALL = {"bs": 32, "items": 64, "valid_items": 32, "size": 16}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_vectors_that_do_not_vary_have_the_loss_that_is_stated(reduction):
    task = VICReg().under(loss={"reduction": reduction}, **SMALL)
    assert task.loss()(torch.full((32, 2, 8), 0.3)).item() == pytest.approx(task.best_constant(), rel=1e-4)
    assert task.best_constant() == pytest.approx(24.75 * (32 if reduction == "sum" else 1))


def test_equal_and_varied_vectors_are_better_than_a_constant():
    vectors = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)) * 2
    loss = VICReg().loss()(torch.stack([vectors, vectors], 1)).item()
    assert loss < 0.5 * VICReg().best_constant()


def test_its_own_head_and_loss_are_vicreg():
    task = VICReg()
    assert (task.head_kind, task.loss_kind) == ("vicreg", "vicreg")
    assert task.titles() == ["view", "other view"]
