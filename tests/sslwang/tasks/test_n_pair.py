import math

import pytest
import torch
from pydantic import ValidationError

from sslwang.tasks.n_pair import NPair

SMALL = {"bs": 64, "items": 64, "valid_items": 8, "size": 16}


@pytest.mark.parametrize("n", [2, 4, 7])
def test_one_of_n_is_of_the_image_of_the_anchor(n):
    task = NPair().under(n=n, views="copies", **SMALL)
    anchor, *others, labels = task.loaders(0).train.one_batch()
    assert labels.shape == (64, n)
    same = torch.stack([(anchor == x).flatten(1).all(1) for x in others], 1)
    assert torch.equal(same, labels > 0.5)
    assert (labels.sum(1) == 1).all()
    assert labels.mean(0).max() < 1 / n + 0.25  # in random places
    assert (task.chance, task.best_constant()) == (1 / n, pytest.approx(math.log(n)))


def test_no_negative_comes_twice_while_there_are_other_photographs():
    anchor, *others, labels = NPair().under(n=4, views="copies", **SMALL).loaders(0).train.one_batch()
    images = torch.stack([anchor, *others], 1).flatten(2)
    gaps = torch.cdist(images, images) + 1e3 * torch.eye(5)
    assert ((gaps < 1e-3).sum((1, 2)) == 2).all()  # the positive and its anchor, nothing else
    assert labels.dtype == torch.float32


def test_one_other_leaves_no_negative():
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        NPair().under(n=1)
