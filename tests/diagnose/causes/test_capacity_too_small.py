"""One unit a layer is named; a narrow net that learns its batch is not."""

from learners import diabetes
from naming import CauseTests, cause_of
from torch import nn

from diagnose.causes import Findings
from diagnose.checks import Evidence, EvidenceList

ID = "capacity-too-small"
ONLY = (
    "overfit-one-batch",
    "wider-narrower",
)


def narrow(seed):
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    learn = diabetes(seed, lr=1e-2)
    learn.model = model
    return learn


NAMED = [("hidden-units-few", diabetes)]
HEALTHY = {"narrow": narrow}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY


def test_where_twice_the_width_is_still_too_little_eight_times_counts():
    def found(times, learned):
        values = [("as it is", -0.6), ("hidden widths times 2", -0.01), (f"hidden widths times {times}", learned)]
        evidence = EvidenceList(Evidence(name="learned", value=v, where=w) for w, v in values)
        return cause_of(ID).suspect(Findings({"wider-narrower": evidence}))

    assert "eight times as wide" in found(8, 0.44).reason
    assert found(8, 0.05) is None
    assert found(0.5, 0.44) is None
