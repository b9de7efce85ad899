"""Quadrant: the label is the quadrant that is shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diagnose.errors import DiagnoseError
from diagnose.task import settings_from
from sslwang.data.images import ArrayImages
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


def test_quarters_are_those_of_nearly_whole_images():
    across = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (1, 200, 200, 3)).copy()
    settings = Quadrant().under(items=40, hardened=False)

    def spans(crops):
        task = settings.under(data={"crops": crops})
        side = replace(task.sides[0], images=ArrayImages(across), part=(0.0, 1.0))
        items = task.Items(side, 40, 0, "train", task.settings)
        return [int(np.ptp(items.item(0, i)[0].astype(int))) for i in range(40)]

    assert settings.settings.data.crops == "whole"
    assert min(spans("whole")) > 0.75 * 200
    assert min(spans("parts")) < 0.5 * 200


def test_a_number_among_few_is_read_from_text():
    assert settings_from(QuadrantSettings, {"g": "2"}).g == 2
    with pytest.raises(DiagnoseError, match="--set g=3"):
        settings_from(QuadrantSettings, {"g": "3"})
