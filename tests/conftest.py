"""One thread: the nets of the tests are small, and two threads on shared cores are slower and less reproducible. No
deadline for a drawn example: that would fail on a busy machine. Passes are signed with a key of the tests' own. What
imports and collection made is walked through by no later garbage collection: every examination ends in one."""

import gc
import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("DIAGNOSE_KEY", "a key for the tests alone")
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
