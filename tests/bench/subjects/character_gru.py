"""The next character of English prose, by a GRU."""

from _support import characters, over, seeded, windows
from fastai.losses import CrossEntropyLossFlat
from odd_subjects import CharacterModel

odd = ""
held_out = False
smoke = ("zero-grad-missing",)


def build(seed=0):
    seeded(seed)
    rows = windows(24, 1024)
    model = CharacterModel(characters()[1])
    return over((rows[:, :-1],), (rows[:, 1:],), model, CrossEntropyLossFlat(), 32, lr=5e-3)
