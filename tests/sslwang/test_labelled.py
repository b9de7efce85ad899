"""Labelled sources: classes by name, trees of folders, sets of arrays, and what is wrong with them."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data import arrays
from sslwang.data.arrays import FASHION_CLASSES, fashion_mnist, read_idx
from sslwang.data.labelled import labelled, stratified
from sslwang.data.splits import held_out, sides
from sslwang.tasks.unmix import Unmix, UnmixSettings


def image(path, colour=0, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 255 - colour, 9)).save(path)


@pytest.fixture
def tree(tmp_path):
    """Four classes, two of them in validation (the second and the fourth), and some images without a class."""
    root = tmp_path / "animals"
    for k, name in enumerate(("ant", "bee", "cat", "dog")):
        for i in range(3 + k):
            image(root / "train" / name / f"{i}.png", 10 * k)
    for k, name in ((1, "bee"), (3, "dog")):
        for i in range(4):
            image(root / "val" / name / "deeper" / f"{i}.png", 10 * k + 1)
    for i in range(10):
        image(root / "unsup" / f"{i}.png", 200)
    return root


def test_a_class_of_validation_has_the_place_it_has_in_training(tree):
    found = labelled(str(tree))
    assert found.classes == ("ant", "bee", "cat", "dog")
    assert found.valid_classes == ("bee", "dog")
    assert found.valid_places().tolist() == [1, 3]
    assert np.bincount(found.train.labels).tolist() == [3, 4, 5, 6]
    assert found.valid.labels.tolist() == [1] * 4 + [3] * 4
    for side in (found.train, found.valid):
        assert len(side) == len(side.images) == len(side.names)
        for picture, label, name in zip(side.images, side.labels, side.names):
            assert name.split("/")[1] == found.classes[label]
            assert picture.getpixel((0, 0))[0] // 10 == label, "image, label and name belong together"


def test_the_images_of_a_tree_are_pickled_and_chosen_from(tree):
    found = pickle.loads(pickle.dumps(labelled(str(tree)))).train
    some = found.subset([7, 0, 7])
    assert len(some) == 3
    assert some.labels.tolist() == [2, 0, 2]
    assert [some.names[0], some.names[1]] == [found.names[7], found.names[0]]
    assert some.images[0] == found.images[7]
    assert some.subset(np.array([1])).names == [found.names[0]]
    with pytest.raises(IndexError):
        found.subset([18])


@pytest.mark.parametrize(("side", "size"), [(20, 32), (70, 64), (160, 128), (400, 128)])
def test_a_folder_is_fed_at_about_the_size_of_its_images(tmp_path, side, size):
    for part in ("train", "val"):
        image(tmp_path / part / "a" / "0.png", size=(side, side + 9))
    assert labelled(str(tmp_path)).size == size


def test_a_class_that_training_lacks_is_one_error_that_names_it(tree):
    image(tree / "val" / "eel" / "0.png")
    image(tree / "val" / "fox" / "0.png")
    with pytest.raises(DiagnoseError, match=r"val/eel: training has no class eel \(nor fox\); its .* ant, bee, cat, d"):
        labelled(str(tree))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "val").rename(root / "test"), r"val: no such folder; .*train/CLASS/ and val/CLASS/"),
        (lambda root: (root / "train" / "eel").mkdir(), r"train/eel: a class without an image"),
        (lambda root: (root / "val" / "cat").mkdir(), r"val/cat: a class without an image"),
        (lambda root: [p.unlink() for p in (root / "train" / "ant").iterdir()], r"train/ant: a class without"),
        (lambda root: (root / "train" / "ant" / "0.png").write_bytes(b"?"), r"ant/0\.png: not .*; mend or delete what"),
    ],
)
def test_trees_that_are_wrong_are_named(tree, spoil, message):
    spoil(tree)
    with pytest.raises(DiagnoseError, match=message):
        labelled(str(tree))


def test_a_tree_without_classes_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DiagnoseError, match="train: no class folder in it"):
        labelled(str(tmp_path))
    with pytest.raises(DiagnoseError, match="nowhere: no such folder"):
        labelled(str(tmp_path / "nowhere"))


def test_damaged_images_of_a_tree_are_left_out_on_request(tree):
    (tree / "train" / "cat" / "0.png").write_bytes(b"?")
    (tree / "val" / "dog" / "deeper" / "2.png").write_bytes(b"?")
    with pytest.warns(UserWarning, match=r"2 of 26 images are damaged and left out; the first is .*cat/0\.png"):
        found = labelled(str(tree), skip_corrupt=True)
    assert np.bincount(found.train.labels).tolist() == [3, 4, 4, 6]
    assert len(found.valid) == 7
    for path in (tree / "train" / "ant").iterdir():
        path.write_bytes(b"?")
    with pytest.warns(UserWarning, match="5 of 26"), pytest.raises(DiagnoseError, match="ant: every image of this"):
        labelled(str(tree), skip_corrupt=True)


# ---- what pretext tasks see ------------------------------------------------------------------------------------------


def shown(*found):
    return [p for side in found for p in side.images.paths]


def test_pretext_tasks_see_train_and_unsup_and_validation_only_on_request(tree):
    found = sides(str(tree))
    assert {p.relative_to(tree).parts[0] for p in shown(*found)} == {"train", "unsup"}
    assert len(shown(*found)) == 28
    assert len(found[1].images) == 5
    every = sides(str(tree), with_val=True)
    assert len(shown(*every)) == 36
    settings = UnmixSettings.model_validate({"data": {"source": str(tree), "with_val": True}})
    assert shown(*Unmix(settings).sides) == shown(*every)


def test_a_pretext_task_goes_on_without_damaged_images_on_request(tree):
    (tree / "unsup" / "3.png").write_bytes(b"?")
    (tree / "val" / "dog" / "deeper" / "2.png").write_bytes(b"?")  # which it does not read
    with pytest.raises(DiagnoseError, match=r"unsup/3\.png: not a readable image \(.*\); data\.skip_corrupt=true"):
        sides(str(tree))
    settings = UnmixSettings.model_validate({"data": {"source": str(tree), "skip_corrupt": True}})
    with pytest.warns(UserWarning, match=r"1 of 28 images are damaged and left out; the first is .*unsup/3\.png"):
        assert len(shown(*Unmix(settings).sides)) == 27


def test_a_folder_without_validation_is_seen_whole(tree, tmp_path):
    assert len(shown(*sides(str(tree / "train")))) == 18
    with pytest.raises(DiagnoseError, match="with_val=true, but there is no folder val"):
        sides(str(tree / "train"), with_val=True)
    with pytest.raises(DiagnoseError, match="photographs have no files"):
        sides("photos", with_val=True)


def test_an_empty_unsup_is_named(tree):
    for path in (tree / "unsup").iterdir():
        path.unlink()
    with pytest.raises(DiagnoseError, match="unsup: no image file in it"):
        sides(str(tree))


@pytest.mark.parametrize("source", ["digits", "faces"])
def test_sets_of_arrays_show_their_training_part_alone(source):
    found, (train, valid) = labelled(source), sides(source)
    assert len(train.images) + len(valid.images) == len(found.train)
    held = held_out([str(i) for i in range(len(found.train))])
    assert all(np.array_equal(found.train.images[i], valid.images[k]) for k, i in enumerate(np.flatnonzero(held)))
    train, valid = sides(source, with_val=True)
    assert len(train.images) + len(valid.images) == len(found.train) + len(found.valid)


def test_small_images_are_cropped_a_little():
    side, rng = sides("faces")[0], np.random.default_rng(0)
    tiles = side.tiles(rng, 32, 200)
    assert tiles.shape == (200, 32, 32, 3)
    again = [side.tile(np.random.default_rng(i), 32, 0) for i in range(20)]
    assert len({t.tobytes() for t in again}) > 10, "crops of one small image differ"


# ---- sets of arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "sizes", "side"), [("digits", (1438, 359), 32), ("faces", (160, 40), 25)])
def test_arrays_are_rgb_and_every_class_is_on_both_sides(source, sizes, side):
    found = labelled(source)
    assert (len(found.train), len(found.valid)) == sizes
    assert found.classes == found.valid_classes == tuple(sorted(found.classes))
    assert found.train.images[3].size == (side, side)
    assert found.train.images[3].mode == "RGB"
    assert found.train.names[3] == "train 3"
    for labels in (found.train.labels, found.valid.labels):
        assert labels.dtype == np.int64
        assert np.bincount(labels).min() >= 20
    assert found.train.images[0] == labelled(source).train.images[0]


def test_digits_are_what_their_labels_say():
    found = labelled("digits")
    mean = {c: np.mean([np.asarray(found.train.images[i]) for i in np.flatnonzero(found.train.labels == c)], 0)
            for c in range(10)}  # fmt: skip
    right = [min(mean, key=lambda c, x=x: np.square(np.asarray(x) - mean[c]).sum()) for x in found.valid.images]
    assert np.mean(right == found.valid.labels) > 0.8


def write_idx(path, values, cut=None):
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()[:cut]))


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A folder of the four files with 30 and 20 images whose pixels all are their label."""
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    arrays._fashion.cache_clear()
    for part, count in (("train", 30), ("t10k", 20)):
        labels = np.arange(count) % 10
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", np.tile(labels[:, None, None], (1, 28, 28)))
    yield tmp_path
    arrays._fashion.cache_clear()


def test_fashion_mnist_is_read_and_its_classes_are_sorted_by_name(fashion):
    found = labelled("fashion-mnist")
    assert (len(found.train), len(found.valid), found.size) == (30, 20, 32)
    assert found.classes == tuple(sorted(FASHION_CLASSES))
    for side in (found.train, found.valid):
        for picture, label in zip(side.images, side.labels):
            assert picture.size == (28, 28)
            assert FASHION_CLASSES[picture.getpixel((0, 0))[0]] == found.classes[label]
    train, valid = sides("fashion-mnist")
    assert (len(train.images), len(valid.images)) == (24, 6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), r"apt install dataset-fashion-mnist, or set FASHION_MNIST"),
        (
            lambda p: write_idx(p, np.zeros((30, 28, 28)), cut=-5),
            r"train-images.*not an idx file of 30 x 28 x 28 bytes",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:-9]), r"train-images.*not a readable idx file"),
        (lambda p: p.write_bytes(b"no gzip"), r"train-images.*not a readable idx file"),
        (lambda p: p.write_bytes(gzip.compress(b"\0")), r"train-images.*not a readable idx file"),
        (
            lambda p: write_idx(p, np.zeros((7, 28, 28))),
            r"train-labels.*\(30,\) labels do not fit \(7, 28, 28\) images",
        ),
    ],
)
def test_files_of_fashion_mnist_that_are_wrong_are_named(fashion, spoil, message):
    spoil(fashion / "train-images-idx3-ubyte.gz")
    with pytest.raises(DiagnoseError, match=message):
        labelled("fashion-mnist")


def test_fashion_mnist_as_it_is_installed():
    try:
        found = fashion_mnist()
    except DiagnoseError as e:
        pytest.skip(str(e))
    assert found.train[0].shape == (60_000, 28, 28)
    assert found.valid[0].shape == (10_000, 28, 28)
    assert np.bincount(found.train[1]).tolist() == [6000] * 10
    trousers, bags = (found.train[0][found.train[1] == FASHION_CLASSES.index(n)].mean(0) for n in ("trouser", "bag"))
    assert bags[14].mean() > 1.3 * trousers[14].mean(), "a bag is wider than trousers"


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_an_idx_file_is_read_as_it_was_written(tmp_path_factory, shape, seed):
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path_factory.mktemp("idx") / "x.gz"
    write_idx(path, values)
    assert np.array_equal(read_idx(path), values)


# ---- shares of the labels --------------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    fraction=st.floats(0.001, 1.0),
    seed=st.integers(0, 2**31),
)
def test_a_share_has_every_class_in_its_proportion(counts, fraction, seed):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = stratified(labels, fraction, seed)
    assert np.array_equal(chosen, stratified(labels, fraction, seed))
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.bincount(labels[chosen]).tolist() == [max(1, round(fraction * n)) for n in counts]
    assert set(stratified(labels, fraction / 2, seed).tolist()) <= set(chosen.tolist())


def test_shares_differ_by_seed_and_all_is_all():
    labels = np.repeat([0, 1], 50)
    assert not np.array_equal(stratified(labels, 0.1, 0), stratified(labels, 0.1, 1))
    assert stratified(labels, 1.0, 0).tolist() == list(range(100))
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(DiagnoseError, match="must be above 0 and at most 1"):
            stratified(labels, fraction, 0)
