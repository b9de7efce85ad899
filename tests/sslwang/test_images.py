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


# ---- damaged files ---------------------------------------------------------------------------------------------------


def damaged_folder(folder, ends=("cut.png", "cut.jpg", "no_image.png", "cut.gif")):
    """Files of every kind and some that are cut short or no image at all."""
    files(folder)
    for name in ends:
        if name.startswith("cut"):
            Image.fromarray(COLOUR).save(folder / name)
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(whole[: len(whole) * 2 // 3])
        else:
            (folder / name).write_bytes(b"not a picture")
    return len(list(folder.iterdir())) - 1


def test_one_error_names_the_first_damaged_file_and_counts_the_others(tmp_path):
    total = damaged_folder(tmp_path)
    with pytest.raises(DiagnoseError) as caught:
        files_in(tmp_path)
    message = str(caught.value)
    assert "cut.gif: not a readable image" in message
    assert f"nor are 3 others of {total}" in message
    assert "data.skip_corrupt=true" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.gif"])
def test_a_file_cut_short_is_found_before_it_is_decoded(tmp_path, name):
    damaged_folder(tmp_path, (name,))
    with pytest.raises(DiagnoseError, match=f"{name}: not a readable image.*; data"):
        files_in(tmp_path)


def test_a_whole_file_with_a_note_after_its_end_is_no_damaged_one(tmp_path):
    files(tmp_path)
    for name in ("rgb.jpg", "grey.png"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"a maker's note " * 10)
    assert len(files_in(tmp_path)) == 8


def test_damaged_files_are_left_out_on_request_and_counted(tmp_path):
    total = damaged_folder(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(tmp_path / "middle.png")
    middle = bytearray((tmp_path / "middle.png").read_bytes())
    middle[len(middle) // 2 : len(middle) // 2 + 400] = bytes(400)
    (tmp_path / "middle.png").write_bytes(middle)
    with pytest.warns(UserWarning, match=f"5 of {total + 1} images are damaged and left out; the first is .*cut.gif"):
        found = files_in(tmp_path, skip_corrupt=True)
    assert len(found) == total - 4
    assert {i.mode for i in ImageFiles(found)} == {"RGB"}, "all that are left can be decoded"


def test_nothing_is_left_of_a_folder_of_damaged_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with (
        pytest.warns(UserWarning, match="1 of 1 images"),
        pytest.raises(DiagnoseError, match="every image file in it is damaged"),
    ):
        files_in(tmp_path, skip_corrupt=True)


def test_a_folder_below_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    files(tmp_path)
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read everything
    with pytest.raises(DiagnoseError, match="locked: permission denied"):
        files_in(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_that_is_closed_is_named(tmp_path, mode):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(mode)
    try:
        with pytest.raises(DiagnoseError, match="closed: permission denied"):
            files_in(closed)
    finally:
        closed.chmod(0o755)
