"""Transform applied: half of the rows are changed, and hardened rows that are not bent are sampled alike."""

from typing import get_args

import pytest
import torch

from sslwang.data.pixels import normalised
from sslwang.data.transforms import TRANSFORMS
from sslwang.tasks.transform_applied import Name, TransformApplied, TransformAppliedSettings


def batch(**given):
    settings = TransformAppliedSettings(**{"bs": 8, "items": 200, "valid_items": 8, "size": 32, **given})
    items = TransformApplied(settings).items(0, "train")
    images, *rest = items.stack([items.item(0, i) for i in range(200)])
    return images[:, 0].float() / 255, *items.batch(images.float() / 255, *rest)


@pytest.mark.parametrize("name", ["elastic", "channel-shuffle", "upside-down", "blur"])
def test_rows_with_label_0_are_as_they_were(name):
    image, picture, target = batch(transform=name, hardened=False)
    same = (picture == normalised(image)).flatten(1).all(1)
    assert torch.equal(~same, target == 1)
    assert 70 < target.sum() < 130


def test_hardened_rows_that_are_not_bent_are_moved_between_pixels_too():
    _, picture, target = batch()
    raw = batch(hardened=False)[1]
    still = target == 0
    assert (picture[still] - raw[still]).abs().flatten(1).amax(1).min() > 0.01


def test_every_transform_can_be_asked_after():
    assert set(get_args(Name)) == set(TRANSFORMS)


@pytest.mark.parametrize("name", ["channel-shuffle", "upside-down", "noise"])
def test_the_oracle_knows_other_transforms(name):
    assert TransformApplied(TransformAppliedSettings(transform=name)).oracle() > 0.95
