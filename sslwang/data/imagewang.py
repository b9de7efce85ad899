"""Image-wang: Imagenette and a tenth of Imagewoof labelled, the rest of Imagewoof unlabelled.

Layout `imagewang-160/{train/<wnid>, unsup, val/<wnid>}`. A pretext task may look at `train` and `unsup`; `val` holds
the images that transfer is measured on, and a random split over all files would train on them.
"""

from __future__ import annotations

from pathlib import Path

from fastai.data.external import URLs, untar_data

from diagnose.errors import DiagnoseError
from sslwang.data.images import files_in

PRETEXT_FOLDERS = ("train", "unsup")


def imagewang_root() -> Path:
    """Folder of the 160 px archive, fetched by fastai on first use (191 MB, into `$FASTAI_HOME`).

    Raises:
        DiagnoseError: it is not there and cannot be fetched.
    """
    try:
        return untar_data(URLs.IMAGEWANG_160)
    except OSError as e:
        raise DiagnoseError(f"imagewang: {URLs.IMAGEWANG_160} cannot be fetched ({e})") from e


def imagewang_files(folders: tuple[str, ...] = PRETEXT_FOLDERS) -> list[Path]:
    """Image files of the given folders of the archive, sorted; by default those a pretext task may train on."""
    root = imagewang_root()
    return [path for folder in folders for path in files_in(root / folder)]
