"""Splits share no pixel; every item can be had again; workers change nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.loaders import ReplayLoader
from sslwang.data.pixels import boxes, composed
from sslwang.data.splits import Side, sides
from sslwang.tasks.unmix import Unmix, UnmixSettings

SMALL = {"bs": 8, "items": 40, "valid_items": 20, "size": 32}


def task(**settings):
    return Unmix(UnmixSettings(**{**SMALL, **settings}))


def equal(a, b):
    return len(a) == len(b) and all(len(x) == len(y) and all(map(torch.equal, x, y)) for x, y in zip(a, b))


class Recorder:
    """An image that only notes which part of it is asked for."""

    def __init__(self, size):
        self.size, self.boxes = size, []

    def resize(self, size, resample, box):
        self.boxes.append(box)
        return Image.fromarray(np.random.default_rng(len(self.boxes)).integers(0, 255, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(512, 512), (451, 300), (1411, 1411), (100, 900), (7, 5), (1, 1)])
def test_training_and_validation_crops_share_no_pixel(size):
    image = Recorder(size)
    reach = []
    for part in (side.part for side in sides("photos", "region")):
        image.boxes = []
        Side([image], part).tiles(np.random.default_rng(0), 16, 300)
        lefts, tops, rights, bottoms = map(np.array, zip(*image.boxes))
        assert (rights - lefts == bottoms - tops).all()
        assert (rights - lefts >= min(64, 0.8 * (rights - lefts).max())).all()
        assert (rights - lefts <= 220).all()
        assert lefts.min() >= 0
        assert tops.min() >= 0
        assert bottoms.max() <= size[1]
        reach.append((lefts.min(), rights.max()))
    if size[0] >= 5:
        assert reach[0][1] < reach[1][0], "training must end before validation begins"
        assert reach[1][1] <= size[0]


def test_photo_split_validates_on_photographs_that_neither_split_trains_on():
    (train, _), (also, unseen) = sides("photos", "region"), sides("photos", "photo")
    assert train == also
    assert not set(train.images.paths) & set(unseen.images.paths)
    assert len(unseen.images) == 3


def test_an_item_can_be_had_again_exactly():
    first, second = (task().items(3, "train") for _ in range(2))
    for epoch, index in [(0, 0), (5, 39), (2, 7)]:
        a, b = first.item(epoch, index), second.item(epoch, index)
        assert all(np.array_equal(x, y) for x, y in zip(a, b))
    assert not np.array_equal(first.item(0, 1)[1], first.item(1, 1)[1])
    assert not np.array_equal(first.item(0, 1)[1], first.item(0, 2)[1])
    assert not np.array_equal(first.item(0, 1)[1], task().items(4, "train").item(0, 1)[1])
    assert not np.array_equal(first.item(0, 1)[1], task().items(3, "valid").item(0, 1)[1])
    with pytest.raises(IndexError):
        first[40]


def test_equal_seeds_give_equal_loaders_and_epochs_differ():
    a, b = task().loaders(0), task().loaders(0)
    one, two = list(a.train), list(a.train)
    assert equal(one, list(b.train))
    assert equal(two, list(b.train))
    assert not equal(one, two)
    assert len(one) == 5
    assert not equal(one, list(task().loaders(1).train))


def test_the_epoch_lives_on_the_loader_and_replays_a_pass():
    loader = task().loaders(0).train
    assert isinstance(loader, ReplayLoader)
    one = list(loader)
    state = vars(loader)["epoch"]
    two = list(loader)
    loader.epoch = state
    assert equal(two, list(loader))
    loader.epoch = -1
    assert equal(one, list(loader))
    assert equal(one, list(loader.new()))


def test_validation_never_changes():
    valid = task().loaders(0).valid
    assert equal(list(valid), list(valid))
    assert sum(len(b[-1]) for b in valid) == 20


def test_training_shuffles():
    items = task().items(0, "train")
    orders = [items.order(e) for e in range(3)]
    assert all(sorted(o) == list(range(40)) for o in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_two_workers_give_the_items_of_none():
    a, b = task().loaders(0), task(data={"workers": 2}).loaders(0)
    for _ in range(2):
        assert equal(list(a.train), list(b.train))
    assert equal(list(a.valid), list(b.valid))


def test_pinning_without_a_gpu_changes_nothing():
    pinned = task(data={"pin": True}).loaders(0)
    assert not pinned.train.pin_memory
    assert equal(list(pinned.train), list(task().loaders(0).train))


def test_fewer_items_than_one_batch_is_an_error():
    with pytest.raises(DiagnoseError, match="7 training items are fewer than one batch of 8"):
        task(items=7).loaders(0)


def test_a_folder_of_images_trains_and_validates_on_different_files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    t = task(data={"source": str(tmp_path)})
    assert t.loaders(0).train.one_batch()[0].shape == (8, 3, 32, 32)
    train, valid = (t.items(0, s).side.images.paths for s in ("train", "valid"))
    assert len(train) == 8
    assert not set(train) & set(valid)


def drawn(count, distinct, images=3):
    """Which images a row of `count` tiles came from, for 200 rows."""
    pictures = [Image.new("RGB", (64, 64), (i, i, i)) for i in range(images)]
    rng = np.random.default_rng(0)
    return [Side(pictures).tiles(rng, 8, count, distinct)[:, 0, 0, 0].tolist() for _ in range(200)]


def test_distinct_sources_come_from_different_images():
    rows = drawn(3, distinct=True)
    assert all(len(set(row)) == 3 for row in rows)
    assert len(set(map(tuple, rows))) == 6


def test_distinct_sources_repeat_an_image_only_when_all_are_used():
    assert all(len(set(row)) == 3 and len(set(row[:3])) == 3 for row in drawn(5, distinct=True))


def test_other_sources_may_come_from_the_same_image():
    assert {len(set(row)) for row in drawn(3, distinct=False)} == {1, 2, 3}


# ---- cutting and putting together -------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (2, 4), (4, 1)])
def test_boxes_come_in_raster_order_and_go_together_again(rows, columns):
    images = torch.rand(5, 2, 3, 8, 16)
    cut = boxes(images, rows, columns)
    h, w = 8 // rows, 16 // columns
    assert cut.shape == (5, 2, rows * columns, 3, h, w)
    for k in range(rows * columns):
        y, x = k // columns * h, k % columns * w
        assert torch.equal(cut[:, :, k], images[..., y : y + h, x : x + w])
    assert torch.equal(composed(cut, rows, columns), images)


def test_a_grid_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="3 x 2 boxes do not divide an image of 8 x 16 px"):
        boxes(torch.rand(3, 8, 16), 3, 2)
