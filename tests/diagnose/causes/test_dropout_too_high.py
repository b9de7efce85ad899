"""Drop-out that leaves next to nothing is named; half of the units dropped is not."""

from learners import diabetes, digits, heavy_dropout
from naming import CauseTests

ID = "dropout-too-high"

NAMED = [("dropout-huge", digits), ("dropout-huge", diabetes)]
HEALTHY = {"half": heavy_dropout}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
