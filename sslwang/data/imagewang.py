"""Image-wang: Imagenette and a tenth of Imagewoof labelled, the rest of Imagewoof unlabelled.

Layout `imagewang-160/{train/<wnid>, unsup, val/<wnid>}`. A pretext task may look at `train` and `unsup`; `val` holds
the images that transfer is measured on, and a random split over all files would train on them.
"""

from __future__ import annotations

from pathlib import Path

from fastai.data.external import URLs, untar_data

from diagnose.errors import DiagnoseError

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


def imagewang_root() -> Path:
    """Folder of the 160 px archive, fetched by fastai on first use (191 MB, into `$FASTAI_HOME`).

    Raises:
        DiagnoseError: it is not there and cannot be fetched.
    """
    try:
        return untar_data(URLs.IMAGEWANG_160)
    except OSError as e:
        raise DiagnoseError(f"imagewang: {URLs.IMAGEWANG_160} cannot be fetched ({e})") from e
