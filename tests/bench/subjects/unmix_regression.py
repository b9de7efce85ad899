"""The registered task unmix, target regression: which sources were mixed, and in what ratio."""

from diagnose.subject import from_task

odd = ""
held_out = False


def build(seed=0):
    return from_task("unmix", {"target": "regression"}, seed, "auto")
