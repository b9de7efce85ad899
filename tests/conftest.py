"""One thread: the nets of the tests are small, and two threads on shared cores are slower and less reproducible. No
deadline for a drawn example: that would fail on a busy machine. Passes are signed with a key of the tests' own."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("DIAGNOSE_KEY", "a key for the tests alone")
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
