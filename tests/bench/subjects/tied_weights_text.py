"""The next character of English prose, by a GRU whose output layer is the embedding itself (Press and Wolf 2017)."""

from _support import characters, over, seeded, windows
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = "one weight in two places"
held_out = True


class Tied(nn.Module):
    """Embedding, GRU, and the embedding's weight once more."""

    def __init__(self, count):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(count, 48), nn.GRU(48, 48, batch_first=True)
        self.head = nn.Linear(48, count)
        nn.init.normal_(self.embedding.weight, std=48**-0.5)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0])


def build(seed=0):
    seeded(seed)
    rows = windows(24, 1024)
    return over((rows[:, :-1],), (rows[:, 1:],), Tied(characters()[1]), CrossEntropyLossFlat(), 32, lr=5e-3)
