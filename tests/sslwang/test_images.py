"""Files of every kind become RGB; folders that are wrong are named."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data.images import ImageFiles, files_in, open_rgb
from sslwang.data.photos import SEEN, UNSEEN, WHERE, photo_path, photos
from sslwang.data.splits import split_files

RAMP = np.tile(np.linspace(0, 255, 90, dtype=np.uint8), (70, 1))
COLOUR = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 128)], -1)


def files(folder):
    """One file of each kind that wild folders hold."""
    rgb = Image.fromarray(COLOUR)
    rgb.save(folder / "rgb.jpg", quality=95)
    Image.fromarray(RAMP).save(folder / "grey.png")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(Image.fromarray(RAMP))
    rgba.save(folder / "rgba.png")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(RAMP.astype(np.float32)).save(folder / "float.tiff")
    Image.fromarray(RAMP > 127).save(folder / "bilevel.png")
    (folder / "notes.txt").write_text("no image")


@pytest.mark.parametrize(
    "name", ["rgb.jpg", "grey.png", "palette.png", "cmyk.jpg", "rgba.png", "sixteen.png", "float.tiff", "bilevel.png"]
)
def test_every_kind_of_file_becomes_rgb(tmp_path, name):
    files(tmp_path)
    image = open_rgb(tmp_path / name)
    assert image.mode == "RGB"
    assert image.size == (90, 70)
    pixels = np.asarray(image).astype(int)
    expected = COLOUR if name in ("rgb.jpg", "palette.png", "cmyk.jpg") else np.repeat(RAMP[..., None], 3, 2)
    if name == "rgba.png":
        assert (pixels[:, 0] == 255).all(), "transparent is white"
        assert np.abs(pixels[:, -1] - COLOUR[:, -1]).max() <= 1, "opaque is itself"
    elif name == "bilevel.png":
        assert set(np.unique(pixels)) == {0, 255}
    else:
        assert np.abs(pixels - expected).mean() < 12


def test_a_folder_is_read_recursively_and_shrunk(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    files(tmp_path / "a" / "b")
    Image.fromarray(np.zeros((900, 600, 3), np.uint8)).save(tmp_path / "big.png")
    found = files_in(tmp_path)
    assert len(found) == 9
    images = ImageFiles(found)
    assert {i.mode for i in images} == {"RGB"}
    assert images[[p.name for p in found].index("big.png")].size == (256, 384)
    assert pickle.loads(pickle.dumps(images))[0] == images[0]


def test_an_image_lies_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(tmp_path / "turned.jpg").size == (70, 90)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DiagnoseError, match="nowhere: no such folder"):
        files_in(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DiagnoseError, match=r"x\.png: not a folder"):
        files_in(tmp_path / "x.png")


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DiagnoseError, match=f"{tmp_path.name}: no image file"):
        files_in(tmp_path)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(DiagnoseError, match=f"{tmp_path.name}: permission denied"):
        files_in(tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    files(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DiagnoseError, match=r"broken\.png: not a readable image"):
        files_in(tmp_path)


def test_a_truncated_file_is_named_when_it_is_decoded(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DiagnoseError, match=r"cut\.png: not a readable image"):
        open_rgb(tmp_path / "cut.png")


def test_the_photographs_are_ten_colour_ones_without_motorcycle():
    assert len(WHERE) == 10
    assert not any("motorcycle" in name for name in WHERE)
    assert set(SEEN) | set(UNSEEN) == set(WHERE)
    assert not set(SEEN) & set(UNSEEN)
    for name, image in zip(WHERE, photos()):
        pixels = np.asarray(image).astype(int)
        assert image.mode == "RGB", name
        assert np.abs(pixels[..., 0] - pixels[..., 2]).mean() > 2, f"{name} is grey"


def test_a_photograph_that_is_not_shipped_is_named(monkeypatch):
    monkeypatch.setitem(WHERE, "rocket", ("skimage", "data/no_such.jpg"))
    with pytest.raises(DiagnoseError, match=r"rocket: skimage is installed without data/no_such\.jpg"):
        photo_path("rocket")


def test_files_are_split_by_name_not_by_seed_or_order(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(50)]
    train, valid = split_files(paths, tmp_path)
    assert len(valid) == 10
    assert sorted(train + valid) == sorted(paths)
    backwards = split_files(paths[::-1], tmp_path)
    assert set(backwards[1]) == set(valid)
    with pytest.raises(DiagnoseError, match="one image cannot be split"):
        split_files(paths[:1], tmp_path)
