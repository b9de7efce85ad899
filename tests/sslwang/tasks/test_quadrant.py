"""Quadrant: the label is the quadrant that is shown."""

import pytest
import torch

from diagnose.errors import DiagnoseError
from diagnose.task import settings_from
from sslwang.tasks.quadrant import Quadrant, QuadrantSettings


def test_what_is_shown_is_the_quadrant_that_the_label_names():
    settings = QuadrantSettings(bs=8, items=80, valid_items=8, size=32, hardened=False)
    items = Quadrant(settings).items(0, "train")
    images, places, jitter = items.stack([items.item(0, i) for i in range(80)])
    picture, target = items.batch(images.float() / 255, places, jitter)
    assert picture.shape == (80, 3, 16, 16)
    for r in range(80):
        y, x = [(0, 0), (0, 16), (16, 0), (16, 16)][target[r]]
        torch.testing.assert_close(picture[r], (images[r, 0, :, y : y + 16, x : x + 16].float() / 255 - 0.45) / 0.25)
    assert target.bincount(minlength=4).min() > 10
    assert items.caption(target[:1]) == items.words()[target[0]]


def test_a_number_among_few_is_read_from_text():
    assert settings_from(QuadrantSettings, {"g": "2"}).g == 2
    with pytest.raises(DiagnoseError, match="--set g=3"):
        settings_from(QuadrantSettings, {"g": "3"})
