"""The next character of English prose, by a small causal transformer."""

import torch
from _support import characters, over, seeded, windows
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = ""
held_out = True
PLACES, WIDTH = 24, 48


class Transformer(nn.Module):
    """Two pre-norm blocks over characters and places."""

    def __init__(self, count):
        super().__init__()
        self.characters, self.places = nn.Embedding(count, WIDTH), nn.Embedding(PLACES, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, count)
        self.register_buffer("hidden", nn.Transformer.generate_square_subsequent_mask(PLACES))

    def forward(self, ids):
        x = self.characters(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(x, self.hidden)))


def build(seed=0):
    seeded(seed)
    rows = windows(PLACES, 1024)
    return over((rows[:, :-1],), (rows[:, 1:],), Transformer(characters()[1]), CrossEntropyLossFlat(), 32, lr=2e-3)
