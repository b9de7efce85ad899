import pytest
import torch

from diagnose.errors import DiagnoseError
from sslwang.tasks.unmix import Unmix
from sslwang.tasks.unmix_triplet import UnmixTriplet

SMALL = {"bs": 16, "items": 16, "valid_items": 8, "size": 16}


def test_rows_are_those_of_unmix():
    for one, other in zip(*(t().under(**SMALL).loaders(3).train.one_batch() for t in (Unmix, UnmixTriplet))):
        assert torch.equal(one, other)


def test_the_loss_is_a_mean_over_pairs_of_mixed_and_other_sources():
    scores, labels = torch.tensor([[-0.5, -0.4, -0.45]]), torch.tensor([[1.0, 0.0, 1.0]])
    margins = [max(0, 0.2 - 0.4 + 0.5), max(0, 0.2 - 0.4 + 0.45)]
    assert UnmixTriplet().loss()(scores, labels).item() == pytest.approx(sum(margins) / 2)
    assert UnmixTriplet().score(scores, labels) == 0
    assert UnmixTriplet().score(-scores, labels) == 1


def test_it_has_no_weights_to_ask_for():
    with pytest.raises(DiagnoseError, match="target=regression"):
        UnmixTriplet().under(target="regression")


@pytest.mark.parametrize("mode", ["unmix", "dup_src", "dup_mix", "scale"])
def test_the_oracle_orders_every_version(mode):
    assert UnmixTriplet().under(mode=mode, size=32).oracle(64) > 0.95
