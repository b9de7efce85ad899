"""Disease progression under Huber's loss."""

from _support import floats, over, seeded, table
from torch import nn

odd = "large errors pull no more than small ones"
held_out = False


def build(seed=0):
    seeded(seed)
    x, y = table("diabetes")
    model = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    return over((floats(x),), (floats((y - y.mean()) / y.std())[:, None],), model, nn.HuberLoss(delta=0.5))
