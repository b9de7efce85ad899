"""The photographs as a tree like Image-wang's: sound, always the same, hard enough, and written at once and whole."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data import tree
from sslwang.data.images import open_rgb
from sslwang.data.labelled import labelled
from sslwang.data.photos import WHERE, photos
from sslwang.data.splits import sides
from sslwang.data.tree import HELD_OUT, TITLES, Crop, crops, encoded, photo_tree, pixels


@pytest.fixture(scope="module")
def plan():
    return list(crops())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The tree, written by two processes that began at the same time."""
    home = tmp_path_factory.mktemp("home")
    env = {**os.environ, "FASTAI_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    code = "from sslwang.data.tree import photo_tree; print(photo_tree())"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [p.communicate(timeout=240) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert len({out for out, _ in said}) == 1
    found = Path(said[0][0].decode().strip())
    assert [p.name for p in found.parent.iterdir()] == [found.name], "nothing unfinished is left"
    return found


@pytest.fixture
def source(root, monkeypatch):
    monkeypatch.setattr("sslwang.data.labelled.photo_tree", lambda: root)
    return "photos"


def test_eight_classes_of_which_four_validate_and_a_folder_without_classes(source):
    found = labelled(source)
    assert found.classes == tuple(TITLES)
    assert found.valid_classes == HELD_OUT
    assert found.valid_places().tolist() == [0, 5, 6, 7]
    assert np.bincount(found.train.labels).tolist() == [60] * 8
    assert np.bincount(found.valid.labels).tolist() == [40, 0, 0, 0, 0, 40, 40, 40]
    assert found.size == 64
    assert found.title(1) == "cat"


def test_no_pixel_of_validation_is_in_the_rest(plan):
    for name in WHERE:
        width = photos((name,))[0].width
        right = [c.box[2] for c in plan if c.photo == name and not c.file.startswith("val")]
        left = [c.box[0] for c in plan if c.photo == name and c.file.startswith("val")]
        assert right, name
        assert max(right) <= 0.7 * width
        assert bool(left) == (name in HELD_OUT)
        assert min(left, default=width) >= 0.75 * width


def test_crops_lie_in_their_photograph_and_keep_their_shape(plan):
    for crop in plan:
        left, top, right, bottom = crop.box
        width, height = photos((crop.photo,))[0].size
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert min(crop.size) == 96
        assert crop.size[0] / crop.size[1] == pytest.approx((right - left) / (bottom - top), rel=0.02)
    assert len({c.size for c in plan}) > 2, "not all are square"
    assert len({(c.photo, c.box) for c in plan}) > 0.99 * len(plan)


def test_files_are_those_of_the_plan(root, plan):
    found = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert found == {c.file for c in plan}
    for crop in plan[::37]:
        assert (root / crop.file).read_bytes() == encoded(crop)
    assert list(crops()) == plan


def mode_of(path):
    with Image.open(path) as image:
        return image.mode


def test_odd_files_are_among_them(root):
    modes = {}
    for path in sorted((root / "unsup").iterdir()):
        with Image.open(path) as image:
            modes.setdefault((image.format, image.mode), []).append(path)
    assert {k: len(v) for k, v in modes.items() if k[1] not in ("RGB", "L")} == {
        ("PNG", "P"): 1, ("PNG", "RGBA"): 1, ("JPEG", "CMYK"): 1, ("PNG", "I;16"): 1,
    }  # fmt: skip
    assert len(modes["JPEG", "L"]) == 20
    grey = {name: [mode_of(p) for p in sorted((root / "train" / name).iterdir())].count("L") for name in TITLES}
    assert set(grey.values()) == {3}, "grey ones are as many in every class"


@pytest.mark.parametrize("kind", ["RGB", "grey", "palette", "RGBA", "CMYK", "16-bit"])
def test_an_odd_file_shows_its_crop(kind, tmp_path, plan):
    crop = Crop(**{**vars(plan[5]), "kind": kind})
    (tmp_path / "x.png").write_bytes(encoded(crop))
    seen = np.asarray(open_rgb(tmp_path / "x.png")).astype(float)
    meant = pixels(crop).astype(float)
    assert seen.shape == meant.shape
    if kind == "RGBA":  # opaque on the right, half so on the left, where white shines through
        opaque = np.linspace(128, 255, meant.shape[1])[:, None] / 255
        meant = opaque * meant + (1 - opaque) * 255
    assert np.corrcoef(seen.mean(2).ravel(), meant.mean(2).ravel())[0, 1] > 0.95


def thumbnails(images, side):
    return np.stack([np.asarray(i.resize((side, side), Image.Resampling.BOX), float).ravel() for i in images])


def nearest_mean(found, side):
    train, valid = thumbnails(found.train.images, side), thumbnails(found.valid.images, side)
    means = np.stack([train[found.train.labels == k].mean(0) for k in range(8)])
    return np.mean(np.square(valid[:, None] - means).sum(2).argmin(1) == found.valid.labels)


def test_colour_does_not_tell_the_class(source, plan):
    found = labelled(source)
    assert nearest_mean(found, 1) < 0.25, "chance is 0.125"
    assert nearest_mean(found, 8) < 0.35
    raw = {}
    for part in ("train", "val"):
        chosen = [c for c in plan if c.file.startswith(part)]
        tiles = [photos((c.photo,))[0].crop(c.box) for c in chosen]
        raw[part] = thumbnails(tiles, 1), np.array([list(TITLES).index(c.photo) for c in chosen])
    means = np.stack([raw["train"][0][raw["train"][1] == k].mean(0) for k in range(8)])
    guess = np.square(raw["val"][0][:, None] - means).sum(2).argmin(1)
    assert np.mean(guess == raw["val"][1]) > 0.5, "of the crops as they are cut it does"


def test_a_pretext_task_reads_it_as_any_tree(root):
    train, valid = sides(str(root))
    shown = [p.relative_to(root).parts[0] for side in (train, valid) for p in side.images.paths]
    assert sorted(set(shown)) == ["train", "unsup"]
    assert len(shown) == 880
    assert {i.mode for i in train.images} == {"RGB"}


def test_its_files_do_not_depend_on_the_process(root, plan):
    code = (
        "import hashlib; from sslwang.data.tree import crops, encoded\n"
        "print(hashlib.sha256(b''.join(encoded(c) for c in list(crops())[::50])).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == hashlib.sha256(b"".join(encoded(c) for c in plan[::50])).hexdigest()


def test_no_room_is_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tree, "kept_in", lambda folder: tmp_path / folder)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        DiagnoseError, match=r"photos-tree-2: cannot be written \(No space left on device\); set FASTAI_"
    ):
        photo_tree()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_home_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    from fastai.data import external

    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "file" / "home"))
    external.fastai_cfg.cache_clear()
    with pytest.raises(DiagnoseError, match="set FASTAI_HOME to a folder that can be written"):
        photo_tree()
    external.fastai_cfg.cache_clear()
