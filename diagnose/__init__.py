"""Examines a fastai Learner: can it learn and, if not, why, with proof.

    import diagnose
    learn.diagnose()                 # in a notebook: shows the report, returns the Diagnosis
    diagnose.examine_learner(learn)  # the same as a function
    learn.fit(5, cbs=diagnose.Watch("runs/monday"))  # record a real run, raise alarms

Everything is imported on first use, so that the command answers without importing torch.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import sys
from typing import Any

_FACE = {
    "Diagnosis": "diagnose.diagnosis",
    "PreflightGate": "diagnose.preflight",
    "Store": "diagnose.store",
    "Subject": "diagnose.subject",
    "Task": "diagnose.task",
    "Watch": "diagnose.watch",
    "examine": "diagnose.examination",
    "examine_learner": "diagnose.notebook",
    "load": "diagnose.notebook",
}

__all__ = ["Diagnosis", "PreflightGate", "Store", "Subject", "Task", "Watch", "examine", "examine_learner", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("learner-diagnose")
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    raise AttributeError(f"module 'diagnose' has no attribute {name!r}")


def _give_learners_the_method(learner: Any) -> None:
    def method(self, **options):
        from diagnose.notebook import examine_learner

        return examine_learner(self, **options)

    method.__name__ = method.__qualname__ = "diagnose"
    method.__doc__ = "Examine this Learner: `diagnose.examine_learner(self, ...)`. Nothing of it is changed."
    learner.Learner.diagnose = method


class _AfterFastai(importlib.abc.MetaPathFinder):
    "Adds `Learner.diagnose` when fastai.learner is imported, whichever of the two packages comes first."

    def find_spec(self, name, path=None, target=None):
        if name != "fastai.learner":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            _give_learners_the_method(module)

        spec.loader.exec_module = exec_module
        return spec


if "fastai.learner" in sys.modules:
    _give_learners_the_method(sys.modules["fastai.learner"])
else:
    sys.meta_path.insert(0, _AfterFastai())
