"""Self-supervised pretraining on Image-wang: pretext tasks, then transfer to the supervised task.

What is of use on its own, for anybody's fastai loaders, is imported from here on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_FACE = {
    "UnmixLabels": "sslwang.data.unmixing",
    "UnmixRow": "sslwang.data.unmixing",
    "UnmixTransform": "sslwang.data.unmixing",
    "UnmixWeights": "sslwang.data.unmixing",
    "transfer_learner": "sslwang.transfer",
    "unmix_learner": "sslwang.tasks.unmix",
}

__all__ = ["UnmixLabels", "UnmixRow", "UnmixTransform", "UnmixWeights", "transfer_learner", "unmix_learner"]


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    raise AttributeError(f"module 'sslwang' has no attribute {name!r}")
