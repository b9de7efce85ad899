"""Calls for processes of their own: those find this file, and no test module."""

import time

from diagnose.errors import DiagnoseError, SubjectError
from sslwang.pretrain import Interrupted


def refuse(value):
    raise DiagnoseError(f"no {value}")


def broken(seconds):
    time.sleep(seconds)
    raise SubjectError("training", ValueError("a defect of theirs"))


def stopped():
    raise Interrupted("stopped", 15)
