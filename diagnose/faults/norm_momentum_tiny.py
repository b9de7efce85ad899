"""Batch norms whose momentum is counted the other way round, so that their statistics never move."""

from fastai.learner import Learner

from diagnose.checks._probing import batch_norms
from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class NormMomentumTiny(Fault):
    """Sets a momentum of 1e-5, as 0.99999 in TensorFlow's way of counting."""

    cause = "norm-statistics-gap"

    def inject(self, learn: Learner) -> None:
        norms = batch_norms(learn.model)
        if not norms:
            raise NotApplicable("the model has no batch norm with running statistics")
        for m in norms:
            m.momentum = 1e-5
