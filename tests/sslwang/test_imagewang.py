"""Image-wang: classes by name, validation never shown, and an archive that is whole or refused."""

import ast
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from fastai.data import external
from fastai.data.external import URLs
from PIL import Image

from diagnose.errors import DiagnoseError
from sslwang.data import imagewang
from sslwang.data.imagewang import (
    ARCHIVES,
    IMAGEWANG,
    IMAGEWANG_TITLES,
    Archive,
    archive_for,
    fetch,
    imagewang_root,
    refuse_damaged,
)

VALID = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)  # places of the classes of validation among the 20 of training


def stand_in(root, train=6, val=3, unsup=6):
    """Image-wang's folders and names with a few tiny files, one of them grey."""
    wnids = sorted(IMAGEWANG_TITLES)
    folders = {f"train/{w}": train for w in wnids} | {f"val/{wnids[i]}": val for i in VALID} | {"unsup": unsup}
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            name = f"{folder.replace('/', '_')}_{i}.JPEG"
            Image.new("L" if i == 1 else "RGB", (20, 16), 7 * i).save(root / folder / name)
    return root


def under(home, code):
    """What a fresh interpreter prints, with fastai's folders below `home`."""
    env = {**os.environ, "FASTAI_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.strip().splitlines()


def test_its_classes_are_mapped_by_name_and_its_validation_is_not_shown(tmp_path):
    stand_in(tmp_path / "data" / "imagewang-160")
    lines = under(
        tmp_path,
        "from sslwang.data.labelled import labelled\n"
        "from sslwang.data.splits import sides\n"
        "d = labelled('imagewang')\n"
        "print(len(d.classes), len(d.valid_classes), d.size, d.title(10))\n"
        "print(*d.valid_places())\n"
        "print(sorted({(n.split('/')[1], d.classes[l]) for n, l in zip(d.valid.names, d.valid.labels)}))\n"
        "print(len(d.train), len(d.valid), {i.mode for i in d.train.images})\n"
        "for with_val in (False, True):\n"
        "    a, b = sides('imagewang', with_val=with_val)\n"
        "    names = [p.name for side in (a, b) for p in side.images.paths]\n"
        "    print(len(names), sum(n.startswith('val') for n in names), sum(n.startswith('unsup') for n in names))\n",
    )
    wnids = sorted(IMAGEWANG_TITLES)
    assert lines[0] == "20 10 128 Samoyed"
    assert lines[1] == " ".join(map(str, VALID))
    assert lines[2] == str([(wnids[i], wnids[i]) for i in VALID])
    assert lines[3] == "120 30 {'RGB'}"
    assert lines[4:] == ["126 0 6", "156 30 6"]


def test_terriers_have_the_names_of_imagenet():
    assert IMAGEWANG_TITLES["n02093754"] == "Border terrier"
    assert IMAGEWANG_TITLES["n02096294"] == "Australian terrier"
    assert len(IMAGEWANG_TITLES) == 20


def test_archives_are_fastais_and_the_smallest_that_fits_is_taken():
    checks = ast.literal_eval((Path(external.__file__).parent / "download_checks.py").read_text())
    assert [a.url for a in ARCHIVES] == [URLs.IMAGEWANG_160, URLs.IMAGEWANG_320, URLs.IMAGEWANG]
    assert [(a.size, a.first) for a in ARCHIVES] == [tuple(checks[a.url]) for a in ARCHIVES]
    sizes = (16, 128, 160, 161, 192, 256, 320, 321, 512)
    assert [archive_for(size).side for size in sizes] == [160] * 3 + [320] * 4 + [None] * 2


def test_pretext_and_labelled_images_come_from_the_archive_of_their_size(tmp_path):
    """Trees of other colours in place of the archives."""
    for name, count in (("imagewang-160", 6), ("imagewang-320", 8), ("imagewang", 10)):
        stand_in(tmp_path / "data" / name, train=count)
    lines = under(
        tmp_path,
        "from sslwang.data.labelled import labelled\n"
        "from sslwang.pretrain import task_of\n"
        "for size in (None, 160, 192, 400):\n"
        "    print(len(labelled('imagewang', size=size).train))\n"
        "for size in (64, 256, 400):\n"
        "    task = task_of('unmix', {'size': size, 'data.source': 'imagewang'})\n"
        "    print(sum(len(side.images) for side in task.sides))\n",
    )
    assert lines == ["120", "120", "160", "200", "126", "166", "206"]


# ---- the archive -----------------------------------------------------------------------------------------------------


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Answers the rest of a file where a range is asked for, and breaks off after `limit` bytes."""

    limit = None
    asked: list

    def do_GET(self):
        content = (self.server.folder / self.path.lstrip("/")).read_bytes()
        start = self.headers.get("Range")
        self.server.asked.append(start)
        begin = int(start.removeprefix("bytes=").rstrip("-")) if start and self.server.ranges else 0
        self.send_response(206 if start and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin:][: self.server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A server of this machine's own over `tmp_path/remote`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as found:
        found.folder, found.limit, found.asked, found.ranges = tmp_path / "remote", None, [], True
        found.folder.mkdir()
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def archive(server):
    """2.5 MB of noise on that server."""
    content = np.random.default_rng(0).bytes(2_500_000)
    return published(server, content)


def published(server, content):
    (server.folder / "imagewang-160.tgz").write_bytes(content)
    md5 = functools.partial(hashlib.md5, usedforsecurity=False)
    url = f"http://127.0.0.1:{server.server_port}/imagewang-160.tgz"
    return Archive(url, len(content), md5(content[: 2**20]).hexdigest(), md5(content).hexdigest())


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on_where_it_was(server, archive, tmp_path, ranges):
    path, part = tmp_path / "here" / "imagewang-160.tgz", tmp_path / "here" / "imagewang-160.tgz.part"
    server.limit, server.ranges = 1_000_000, ranges
    with pytest.raises(DiagnoseError, match=r"1,000,000 bytes are kept in .*\.part, and the next run goes on"):
        fetch(archive, path)
    assert not path.exists()
    assert part.stat().st_size == 1_000_000
    server.limit = None
    fetch(archive, path)
    assert path.read_bytes() == (server.folder / "imagewang-160.tgz").read_bytes()
    assert not part.exists()
    assert server.asked == [None, "bytes=1000000-"]
    fetch(archive, path)
    assert len(server.asked) == 2, "what is there is not fetched again"


def test_what_was_fetched_and_is_something_else_is_not_used(server, archive, tmp_path):
    content = (server.folder / archive.name).read_bytes()
    (server.folder / archive.name).write_bytes(content[:-1] + b"?")
    with pytest.raises(DiagnoseError, match=r"another MD5.*delete .*tgz\.part and run again"):
        fetch(archive, tmp_path / archive.name)
    assert not (tmp_path / archive.name).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-9], r"2,499,991 of 2,500,000 bytes; delete .*imagewang-160\.tgz and run again"),
        (lambda content: b"\0" + content[1:], r"another MD5\); delete .*imagewang-160\.tgz and run again"),
        (lambda content: content[:-1] + b"\0", r"another MD5\); delete .*imagewang-160\.tgz and run again"),
    ],
)
def test_a_damaged_archive_is_refused_by_name(server, archive, tmp_path, change, message):
    path = server.folder / archive.name
    refuse_damaged(archive, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DiagnoseError, match=message):
        refuse_damaged(archive, path)


def test_an_address_that_does_not_answer_is_one_clear_line(tmp_path, server, archive):
    server.shutdown()
    server.server_close()
    with pytest.raises(DiagnoseError, match=r"^http://127.* cannot be fetched to .*imagewang-160\.tgz"):
        fetch(archive, tmp_path / "imagewang-160.tgz")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """fastai's folders in a place of their own."""
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "home"))
    external.fastai_cfg.cache_clear()
    (tmp_path / "home").mkdir()  # with what fastai would write there, leaving the file open
    (tmp_path / "home" / "config.ini").write_text("[DEFAULT]\ndata = data\narchive = archive\n")
    yield tmp_path / "home"
    external.fastai_cfg.cache_clear()


def test_it_is_fetched_unpacked_and_counted(server, tmp_path, home, monkeypatch):
    root = stand_in(tmp_path / "imagewang-160", train=1, val=1)
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as tar:
        tar.add(root, "imagewang-160")
    archive = published(server, (tmp_path / "made.tgz").read_bytes())
    monkeypatch.setattr(imagewang, "IMAGEWANG_COUNTS", {"train": 20, "val": 10, "unsup": 6})
    found = imagewang_root(archive)
    assert found == home / "data" / "imagewang-160"
    assert sorted(p.name for p in found.rglob("*.JPEG")) == sorted(p.name for p in root.rglob("*.JPEG"))
    assert imagewang_root(archive) == found
    assert len(server.asked) == 1
    next((found / "unsup").iterdir()).unlink()
    with pytest.raises(DiagnoseError, match=r"unsup: 5 of 6 images, its unpacking was cut short; delete .*-160 and"):
        imagewang_root(archive)


def test_an_archive_that_is_there_and_cut_short_is_refused_before_it_is_unpacked(home):
    (home / "archive").mkdir(parents=True)
    (home / "archive" / IMAGEWANG.name).write_bytes(b"half")
    with pytest.raises(DiagnoseError, match=r"4 of 191,498,213 bytes; delete .*imagewang-160\.tgz"):
        imagewang_root()
    assert not (home / "data" / "imagewang-160").exists()
