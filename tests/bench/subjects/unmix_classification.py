"""The registered task unmix, target classification: which sources were mixed."""

from diagnose.subject import from_task

odd = ""
held_out = False


def build(seed=0):
    return from_task("unmix", {"target": "classification"}, seed, "auto")
