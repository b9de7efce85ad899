import math

import pytest
import torch
from pydantic import ValidationError

from sslwang.tasks.nt_xent import NTXentTask

SMALL = {"bs": 64, "items": 64, "valid_items": 8, "size": 16}


@pytest.mark.parametrize("positives", [1, 2, 3])
def test_as_many_positives_as_the_settings_say(positives):
    task = NTXentTask().under(positives=positives, views="copies", **SMALL)
    anchor, *others, labels = task.loaders(0).train.one_batch()
    same = torch.stack([(anchor == x).flatten(1).all(1) for x in others], 1)
    assert torch.equal(same, labels > 0.5)
    assert (labels.sum(1) == positives).all()
    assert task.chance == positives / 4
    assert task.best_constant() == pytest.approx(math.log(4))


def test_the_loss_is_least_when_all_positives_share_the_highest_cosine():
    loss, labels = NTXentTask().loss(), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    both = loss(torch.tensor([[1.0, 1.0, -1.0, -1.0]]), labels).item()
    one = loss(torch.tensor([[1.0, 0.5, -1.0, -1.0]]), labels).item()
    assert both == pytest.approx(math.log(2), abs=1e-6)
    assert one > both


def test_a_negative_must_be_left():
    with pytest.raises(ValidationError, match="leaves no negative"):
        NTXentTask().under(positives=4)
