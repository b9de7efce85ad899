"""The registered task unmix in its easiest version: the sources are one image, multiplied by the weights."""

from diagnose.subject import from_task

odd = ""
held_out = True


def build(seed=0):
    return from_task("unmix", {"mode": "scale"}, seed, "auto")
