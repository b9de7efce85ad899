"""Examines a fastai Learner: can it learn and, if not, why, with proof."""

__version__ = "0.1.0"
