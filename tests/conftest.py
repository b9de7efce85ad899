"""One thread: the nets of the tests are small, and two threads on shared cores are slower and less reproducible."""

import torch

torch.set_num_threads(1)
