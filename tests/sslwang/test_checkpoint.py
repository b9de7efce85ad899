"""Checkpoints: whole or not there, and always one to go back to."""

import errno
import json
import os
import pathlib

import pytest
import torch

from diagnose.errors import DiagnoseError
from sslwang import checkpoint
from sslwang.checkpoint import Checkpoints, packed, put, put_json


def tensors(value):
    return {"a": torch.full((3, 2), float(value)), "n": torch.tensor(value), "u": torch.arange(5, dtype=torch.uint8)}


@pytest.fixture
def held(tmp_path):
    """Three checkpoints were written, of the values 1, 2 and 3."""
    held = Checkpoints(tmp_path / "state")
    for value in (1, 2, 3):
        held.write(tensors(value), {"value": value, "third": 1 / 3, "nothing": float("nan")})
    return held


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_newest_comes_back_with_its_bits(held):
    found = Checkpoints(held.folder).newest()
    assert found.number == 3
    assert found.rest["value"] == 3
    assert found.rest["third"].hex() == (1 / 3).hex()
    assert found.rest["nothing"] != found.rest["nothing"]
    for name, t in tensors(3).items():
        assert found.tensors[name].dtype == t.dtype
        assert torch.equal(found.tensors[name], t)
    assert found.passed_over == []


def test_two_stay_and_nothing_else(held):
    held.write(tensors(4), {})
    expected = [f"{n:06d}{end}" for n in (3, 4) for end in (".json", ".manifest.json", ".safetensors")]
    assert names(held.folder) == expected


def test_an_empty_folder_has_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").newest() is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("end", [".safetensors", ".json", ".manifest.json"])
@pytest.mark.parametrize("harm", [cut, flip, pathlib.Path.unlink])
def test_what_is_damaged_is_never_loaded(held, end, harm):
    if end == ".manifest.json" and harm is flip:
        pytest.skip("which character of a manifest was flipped decides whether it can still be read")
    harm(held.folder / f"000003{end}")
    found = Checkpoints(held.folder).newest()
    assert found.number == 2
    assert torch.equal(found.tensors["a"], tensors(2)["a"])
    unmarked = end == ".manifest.json" and harm is pathlib.Path.unlink  # then there is no third checkpoint at all
    assert len(found.passed_over) == (0 if unmarked else 1)
    assert unmarked or "000003" in found.passed_over[0]


def test_a_manifest_of_another_file_is_no_manifest(held):
    path = held.folder / "000003.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["000003.json"] = "0" * 64
    path.write_text(json.dumps(manifest))
    found = Checkpoints(held.folder).newest()
    assert found.number == 2
    assert "000003.json is damaged" in found.passed_over[0]


def test_if_all_are_damaged_the_error_names_them(held):
    for path in held.folder.glob("*.safetensors"):
        cut(path)
    with pytest.raises(DiagnoseError, match=r"no checkpoint can be read: .*000003.*000002"):
        Checkpoints(held.folder).newest()


def test_a_later_schema_is_not_read(held, monkeypatch):
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    held.write(tensors(4), {})
    monkeypatch.undo()
    found = Checkpoints(held.folder).newest()
    assert found.number == 3
    assert "of schema 2" in found.passed_over[0]


def test_after_a_damaged_one_the_next_has_a_number_of_its_own(held):
    cut(held.folder / "000003.safetensors")
    again = Checkpoints(held.folder)
    assert again.write(tensors(5), {"value": 5}) == 4
    assert Checkpoints(held.folder).newest().rest["value"] == 5


def test_a_file_stays_as_long_as_a_checkpoint_names_it(tmp_path):
    held = Checkpoints(tmp_path)
    for step in (1, 2):
        held.keep(f"best-{step}.safetensors", packed(tensors(step)))
        held.write(tensors(step), {}, [f"best-{step}.safetensors"])
    assert {"best-1.safetensors", "best-2.safetensors"} < set(names(tmp_path))
    held.write(tensors(3), {}, ["best-2.safetensors"])
    assert "best-1.safetensors" not in names(tmp_path)
    assert held.newest().kept == {"best-2.safetensors": packed(tensors(2))}
    cut(tmp_path / "best-2.safetensors")
    with pytest.raises(DiagnoseError, match=r"best-2\.safetensors is damaged"):
        held.newest()


# ---- no room, no permission ------------------------------------------------------------------------------------------


class Full:
    """A disk that takes so many bytes more."""

    def __init__(self, monkeypatch, room):
        self.room, opened = room, pathlib.Path.open

        def open_(path, mode="r", *args, **kwargs):
            file = opened(path, mode, *args, **kwargs)
            return Limited(file, self) if "w" in mode else file

        monkeypatch.setattr(pathlib.Path, "open", open_)


class Limited:
    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        taken = data[: self.disk.room]
        self.file.write(taken)
        self.disk.room -= len(taken)
        if len(taken) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 100, 260, 300, 400])
def test_a_full_disk_leaves_what_was_there(held, monkeypatch, room):
    before = names(held.folder)
    Full(monkeypatch, room)
    with pytest.raises(OSError, match="No space left"):
        held.write(tensors(4), {"value": 4})
    assert names(held.folder) == before
    assert Checkpoints(held.folder).newest().number == 3


def test_when_there_is_room_again_it_goes_on(held, monkeypatch):
    with monkeypatch.context() as there:
        Full(there, 100)
        with pytest.raises(OSError, match="No space left"):
            held.write(tensors(4), {"value": 4})
    held.write(tensors(5), {"value": 5})
    assert Checkpoints(held.folder).newest().rest["value"] == 5


def test_put_replaces_a_file_or_leaves_it(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    put_json(path, {"a": [1, 0.1]})
    assert json.loads(path.read_text()) == {"a": [1, 0.1]}
    Full(monkeypatch, 3)
    with pytest.raises(OSError, match="No space left"):
        put(path, b"longer than there is room for")
    assert json.loads(path.read_text()) == {"a": [1, 0.1]}
    assert names(tmp_path) == ["run.json"]
