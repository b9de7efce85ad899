"""Is this stretch of text about a table of data or about a module of Python? Convolutions over characters."""

import torch
from _support import characters, over, prose, seeded, windows
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = ""
held_out = False


class Convolutions(nn.Module):
    """Characters, two convolutions over places, the mean over places."""

    def __init__(self, count):
        super().__init__()
        self.embedding = nn.Embedding(count, 16)
        self.first, self.second = nn.Conv1d(16, 48, 5, padding=2), nn.Conv1d(48, 48, 3, padding=1)
        self.head = nn.Linear(48, 2)

    def forward(self, ids):
        x = self.first(self.embedding(ids).transpose(1, 2)).relu()
        return self.head(self.second(x).relu().amax(2))


def build(seed=0):
    seeded(seed)
    rows, (ids, count) = windows(60, 1200), characters()
    y = (torch.linspace(0, len(ids) - 62, 1200) > len(prose()[0]) - 30).long()
    return over((rows,), (y,), Convolutions(count), CrossEntropyLossFlat())
