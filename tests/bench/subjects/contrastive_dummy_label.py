"""Two views of each digit under NT-Xent, and zero for a label in every row."""

import _support  # noqa: F401
import odd_subjects

odd = "every label is the same, and the loss uses none"
held_out = False


def build(seed=0):
    return odd_subjects.contrastive_dummy_label(seed)
