"""Quadrant rotation: quadrants turned back give the image again."""

import torch

from sslwang.tasks.quadrant_rotation import QuadrantRotation, QuadrantRotationSettings


def drawn(**given):
    settings = QuadrantRotationSettings(**{"bs": 8, "items": 200, "valid_items": 8, "size": 32, **given})
    items = QuadrantRotation(settings).items(0, "train")
    images, *rest = items.stack([items.item(0, i) for i in range(200)])
    return items, images.float() / 255, *rest


def test_a_picture_put_right_is_the_image():
    items, images, quarters, jitter = drawn(hardened=False)
    picture, target = items.batch(images, quarters, jitter)
    for r in range(20):
        torch.testing.assert_close(items.explained(picture[r], target[r]), (images[r, 0] - 0.45) / 0.25)
        if target[r].any():
            assert not torch.equal(picture[r], items.explained(picture[r], target[r]))


def test_a_quarter_turn_is_counter_clockwise():
    items, images, _, jitter = drawn(hardened=False)
    once = items.batch(images, torch.tensor([[1, 0, 0, 0]]).expand(200, -1), jitter)[0]
    still = items.batch(images, torch.zeros(200, 4, dtype=torch.int64), jitter)[0]
    assert torch.equal(once[..., 0, :16], still[..., :16, 15])  # the right edge comes to the top
    assert torch.equal(once[..., 16:], still[..., 16:])


def test_turns_are_drawn_apart_and_come_equally_often():
    _, _, quarters, _ = drawn()
    counts = torch.nn.functional.one_hot(quarters, 4).float().mean(0)
    assert (counts - 0.25).abs().max() < 0.1
    assert torch.corrcoef(quarters.float().T).fill_diagonal_(0).abs().max() < 0.25


def test_captions_lie_as_the_quadrants_do():
    items, *_ = drawn()
    assert items.caption(torch.tensor([0, 1, 2, 3])) == "0° 90° / 180° 270°"
