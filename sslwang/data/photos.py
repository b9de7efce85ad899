"""Ten colour photographs that come with scikit-image, scikit-learn and matplotlib, read in place.

An embedded default in the style of Asano et al. 2020 ("A critical analysis of self-supervision, or what we can learn
from a single image"): few photographs, any number of crops. They serve gates, tests and demonstrations, and support no
claim about accuracy on Image-wang. Licences: astronaut, rocket, hubble_deep_field and grace_hopper are in the public
domain; chelsea, coffee and retina CC0; ihc no known restrictions; china and flower CC-BY 2.0 (scikit-learn).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from diagnose.errors import DiagnoseError
from sslwang.data.images import ImageFiles

WHERE = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "hubble_deep_field": ("skimage", "data/hubble_deep_field.jpg"),
    "ihc": ("skimage", "data/ihc.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
UNSEEN = ("chelsea", "china", "rocket")  # never trained on, whatever the split
SEEN = tuple(name for name in WHERE if name not in UNSEEN)


def photo_path(name: str) -> Path:
    """File of one photograph, found beside the package that ships it, without importing that package.

    Raises:
        DiagnoseError: the package is not installed or does not ship the file.
    """
    package, file = WHERE[name]
    try:
        return shipped(package, file)
    except DiagnoseError as e:
        raise DiagnoseError(f"photograph {name}: {e}") from e


def shipped(package: str, file: str) -> Path:
    """A file found in the folder of an installed package, without importing that package.

    Raises:
        DiagnoseError: the package is not installed or does not ship the file.
    """
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / file
    if path is None or not path.is_file():
        raise DiagnoseError(f"{package} is installed without {file}; reinstall {package}")
    return path


@functools.cache
def photos(names: tuple[str, ...] = tuple(WHERE)) -> ImageFiles:
    """The named photographs at full size; they stay in memory (30 MB for all) and are shared by all callers."""
    return ImageFiles([photo_path(name) for name in names], shorter_side=None, keep=len(names))
