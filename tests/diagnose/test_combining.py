"""Two faults at once: both are named, each proven by what the other cure alone does not do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from learners import digits

from diagnose import registry
from diagnose.causes import Cause, Suspicion
from diagnose.changes import Change
from diagnose.combining import Part, search, together
from diagnose.errors import NotApplicable
from diagnose.examination import examine
from diagnose.faults import Fault
from diagnose.subject import from_learner
from diagnose.trial import Scale, Trial

FAULTS = registry.load_all("diagnose.faults", Fault)
ENOUGH = ["optimizer-holds-parameters", "overfit-one-batch", "learning-rate-ladder", "loss-contract", "initialisation"]


@dataclass
class Pretended:
    """A lab in which a set of changes lets so much be learned as a table says."""

    table: dict[frozenset, float]
    run: list[frozenset] = field(default_factory=list)

    def trial(self, change: Change) -> Trial:
        names = frozenset(change.name.split(" + "))
        self.run.append(names)
        if names not in self.table:
            raise NotApplicable("these do not go together")
        return Trial(change.name, Scale(1.0, 0.0), loss=[1 - self.table[names]], learned=self.table[names])

    @property
    def baseline(self) -> Trial:
        return Trial("", Scale(1.0, 0.0), loss=[1.0], learned=0.0)


def part(name: str, alone: float = 0.0, strength: float = 0.5) -> Part:
    cause = type(name, (Cause,), {"id": name})()
    return Part(cause, Suspicion(strength, name), Change(name, lambda learn: None), alone)


def ids(found) -> list[str]:
    return sorted(p.cause.id for p, _ in found)


def test_the_change_that_helps_most_is_kept_and_the_search_goes_on():
    lab = Pretended({frozenset("ab"): 0.3, frozenset("ac"): 0.95, frozenset("c"): 0.1, frozenset("a"): 0.4})
    found = search(lab, [part("a", 0.4), part("b", 0.2), part("c", 0.1)], 0.0)
    assert ids(found) == ["a", "c"]
    assert all(s.proven and s.proof.after.learned == 0.95 for _, s in found)
    assert {s.proof.before.learned for _, s in found} == {0.4, 0.1}


def test_three_at_once():
    table = {
        frozenset("ab"): 0.3,
        frozenset("ac"): 0.5,
        frozenset("abc"): 0.9,
        frozenset("bc"): 0.1,
        frozenset("a"): 0.2,
    }
    found = search(Pretended(table), [part("a", 0.2), part("b"), part("c")], 0.0)
    assert ids(found) == ["a", "b", "c"]


def test_a_change_that_is_not_needed_is_dropped():
    table = {
        frozenset("ab"): 0.4,
        frozenset("abc"): 0.9,
        frozenset("bc"): 0.9,
        frozenset("ac"): 0.2,
        frozenset("a"): 0.2,
    }
    table |= {frozenset("b"): 0.1, frozenset("c"): 0.1}
    assert ids(search(Pretended(table), [part("a", 0.2), part("b"), part("c")], 0.0)) == ["b", "c"]


def test_where_none_helps_alone_the_most_suspected_are_tried_in_pairs():
    table = {frozenset("bc"): 0.9, frozenset("b"): 0.0, frozenset("c"): 0.0, frozenset("ab"): 0.0, frozenset("ac"): 0.0}
    found = search(Pretended(table), [part("a", strength=0.9), part("b", strength=0.8), part("c", strength=0.1)], 0.0)
    assert ids(found) == ["b", "c"]


def test_no_set_is_tried_twice():
    lab = Pretended({frozenset(names): 0.0 for names in ("ab", "ac", "ad", "bc", "bd", "cd")})
    assert search(lab, [part(name) for name in "abcd"], 0.0) == []
    assert sorted(map(sorted, lab.run)) == [list(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")]


def test_what_does_not_restore_learning_proves_nothing():
    table = {frozenset("ab"): 0.5, frozenset("a"): 0.3, frozenset("b"): 0.2}
    assert search(Pretended(table), [part("a", 0.3), part("b", 0.2)], 0.0) == []


def test_changes_are_made_in_order():
    made = []
    one, two = (Change(n, lambda learn, n=n: made.append((n, learn)), f"do_{n}()") for n in "ab")
    both = together([Part(None, None, one), Part(None, None, two)])
    both.apply("twin")
    assert made == [("a", "twin"), ("b", "twin")]
    assert both.name == "a + b"
    assert both.code == "do_a()\ndo_b()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [("weights-frozen", "activation-twice"), ("activation-twice", "lr-too-low")]
)
def test_two_faults_in_one_learner_are_both_named(first, second):
    learn = digits(0)
    for id in (first, second):
        FAULTS[id].inject(learn)
    found = examine(from_learner(learn), budget=None, only=ENOUGH)
    assert found.verdict == "fail"
    assert {c.id for c in found.causes if c.proven} == {FAULTS[first].cause, FAULTS[second].cause}
    for cause in found.causes:
        assert not cause.proven or "as well" in cause.proof.change
