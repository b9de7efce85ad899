"""Which transform: labels name what was applied, and the choices are drawn evenly."""

import pytest
import torch

from sslwang.data.pixels import normalised
from sslwang.data.transforms import Draws, applied
from sslwang.tasks.which_transform import WhichTransform, WhichTransformSettings


def drawn(count=300, **given):
    settings = WhichTransformSettings(**{"bs": 8, "items": count, "valid_items": 8, "size": 32, **given})
    items = WhichTransform(settings).items(0, "train")
    images, which, *rest = items.stack([items.item(0, i) for i in range(count)])
    return items, images.float() / 255, which, rest


def test_class_0_is_the_image_as_it_was_and_no_other_is():
    items, images, which, rest = drawn(hardened=False)
    picture, target = items.batch(images, which, *rest)
    same = (picture == normalised(images[:, 0])).flatten(1).all(1)
    assert torch.equal(same, target == 0)
    assert target.bincount(minlength=6).min() > 25
    assert items.words()[0] == "none"


def test_class_k_is_the_kth_name():
    items, images, which, rest = drawn(hardened=False, transforms="invert,blur")
    picture, target = items.batch(images, which, *rest)
    for k, name in ((1, "invert"), (2, "blur")):
        rows = target == k
        made = applied(images[rows, 0], [name], torch.ones(int(rows.sum()), 1), Draws(*(d[rows] for d in rest)))
        torch.testing.assert_close(picture[rows], normalised(made))


def test_of_several_every_choice_but_none_comes_equally_often():
    _, _, which, _ = drawn(1500, target="multi", size=16)
    codes = (which * 2 ** torch.arange(5)).sum(1)
    counts = codes.bincount(minlength=32)
    assert counts[0] == 0
    assert counts[1:].min() > 20
    t = WhichTransform(WhichTransformSettings(target="multi"))
    assert which.float().mean().item() == pytest.approx(16 / 31, abs=0.02)
    assert t.chance == pytest.approx(16 / 31)
    assert t.best_constant() == pytest.approx(0.6926, abs=1e-4)


@pytest.mark.parametrize("target", ["single", "multi"])
def test_the_oracle_knows_both_forms(target):
    assert WhichTransform(WhichTransformSettings(target=target)).oracle() > 0.95


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("grey,blurr", "no transform named 'blurr'; known: upside-down"),
        ("grey,grey", "named twice"),
        ("upside-down,quarter-turn", "are one in part of the rows"),
    ],
)
def test_transforms_that_cannot_be_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        WhichTransformSettings(transforms=names)
