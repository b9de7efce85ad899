"""Image-wang: Imagenette and a tenth of Imagewoof labelled, the rest of Imagewoof unlabelled.

Layout `imagewang-160/{train/<wnid>, unsup, val/<wnid>}`, and the same of the archives with larger images. A pretext
task may look at `train` and `unsup`; `val` holds the images that transfer is measured on, and a random split over all
files would train on them.
"""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastai.data.external import URLs, untar_data
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from diagnose.errors import DiagnoseError
from sslwang.data.images import image_paths, kept_in

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# As ImageNet names them; the dictionary that is copied from fastai's examples swaps border and Australian terrier.
IMAGEWANG_TITLES = {
    "n01440764": "tench",
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02102040": "English springer",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


IMAGEWANG_COUNTS = {"train": 14_669, "val": 3_929, "unsup": 7_750}  # files
BLOCK = 2**20  # bytes read at a time
PATIENCE = 60  # seconds without a byte before a download is given up


@dataclass(frozen=True)
class Archive:
    """A file to fetch and what it must be.

    Args:
        size: in bytes. first, md5: MD5 of its first MiB and of all of it.
        side: px of the shorter side of its images; None where they are as they were taken.
    """

    url: str
    size: int
    first: str
    md5: str
    side: int | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rsplit("/", 1)[-1]


# Size and first MD5 as fastai's `download_checks` has them, the second MD5 as catalyst's `contrib.datasets` has it.
IMAGEWANG = Archive(
    URLs.IMAGEWANG_160, 191_498_213, "dab9b1d97b95574ac64122a19bc74ca1", "1dc388d37d1dc52836c06749e14e37bc", 160
)
IMAGEWANG_320 = Archive(
    URLs.IMAGEWANG_320, 669_826_647, "fff8ac034d60e14fcf7789845e625263", "ff01d7c126230afce776bdf72bda87e6", 320
)
IMAGEWANG_FULL = Archive(
    URLs.IMAGEWANG, 2_900_347_689, "2b7776bac0fc95db72ac8a3b091a3e30", "46f9749616a29837e7cd67b103396f6e"
)
ARCHIVES = (IMAGEWANG, IMAGEWANG_320, IMAGEWANG_FULL)  # from the smallest


def archive_for(size: int) -> Archive:
    """The smallest archive whose images need not be enlarged to be fed at `size` px."""
    return next(archive for archive in ARCHIVES if archive.side is None or archive.side >= size)


def refuse_damaged(archive: Archive, path: Path) -> None:
    """Look at a fetched file.

    Raises:
        DiagnoseError: it is cut short or not what it must be; it says which file to delete.
    """
    again = f"delete {path} and run again"
    size = path.stat().st_size
    if size != archive.size:
        raise DiagnoseError(f"{path}: {size:,} of {archive.size:,} bytes; {again}")
    with path.open("rb") as file:
        block = file.read(BLOCK)
        whole = hashlib.md5(block, usedforsecurity=False)
        if whole.hexdigest() == archive.first:
            while block := file.read(BLOCK):
                whole.update(block)
    if whole.hexdigest() != archive.md5:
        raise DiagnoseError(f"{path}: not the archive of {archive.url} (another MD5); {again}")


def fetch(archive: Archive, path: Path) -> None:
    """Fetch a file, going on where an earlier attempt broke off, with a progress bar on stderr.

    Bytes go to `<path>.part`, which becomes `path` once it is verified; a lock keeps processes from fetching twice.

    Raises:
        DiagnoseError: the file cannot be reached, read or written, or is not what it must be.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(path.name + ".lock")):
            if path.exists():
                return
            if not part.exists() or part.stat().st_size < archive.size:
                _download(archive, part)
            refuse_damaged(archive, part)
            part.replace(path)
    except (OSError, http.client.HTTPException) as e:
        kept = part.stat().st_size if part.exists() else 0
        on = f"; {kept:,} bytes are kept in {part}, and the next run goes on from there" if kept else ""
        raise DiagnoseError(f"{archive.url} cannot be fetched to {path} ({e}){on}") from e


def _download(archive: Archive, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        urllib.request.urlopen(request, timeout=PATIENCE) as answer,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        bar = progress.add_task(archive.name, total=archive.size, completed=have)
        with part.open("ab" if resumed else "wb") as file:
            while have < archive.size and (block := answer.read(BLOCK)):
                file.write(block)
                have += len(block)
                progress.update(bar, completed=have)
    if have < archive.size:
        raise ConnectionError(f"the connection ended after {have:,} of {archive.size:,} bytes")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    "The lock that fastdownload takes as well, where the system has such locks."
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def imagewang_root(archive: Archive = IMAGEWANG) -> Path:
    """Folder of an archive, fetched and unpacked on first use (of 160 px 191 MB, into `$FASTAI_HOME`).

    Raises:
        DiagnoseError: it cannot be fetched, or what is there is damaged or was only half unpacked.
    """
    packed = kept_in("archive") / archive.name
    root = kept_in("data") / archive.name.removesuffix(".tgz")
    if not root.exists():
        if packed.exists():
            refuse_damaged(archive, packed)
        else:
            fetch(archive, packed)
    try:
        root = untar_data(archive.url)
    except (OSError, EOFError, tarfile.TarError) as e:
        raise DiagnoseError(f"{packed}: cannot be unpacked to {root} ({e})") from e
    if packed.exists():
        for part, count in IMAGEWANG_COUNTS.items():
            found = len(image_paths(root / part)) if (root / part).is_dir() else 0
            if found < count:
                raise DiagnoseError(
                    f"{root / part}: {found:,} of {count:,} images, its unpacking was cut short; delete {root} and run "
                    "again"
                )
    return root
