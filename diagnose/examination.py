"""The examination: what to run next within the budget, and from evidence to diagnosis.

Inspections come first, then probes, then the one-batch trial. Suspected causes are settled from the cheapest on; the
learning-rate ladder comes when no other cause is proven, and last where the batch is learned. Before the extra checks
spend the budget, time is kept back to prove what those before them brought up. What cannot change the verdict any more
is left out and listed.
"""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version

from diagnose import combining, registry
from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.changes import learning_rate, rate_text
from diagnose.checks import Check
from diagnose.diagnosis import Answer, CauseResult, CheckResult, Diagnosis, Tool, Unchecked, Verdict
from diagnose.errors import DiagnoseError, NotApplicable, SubjectError
from diagnose.isolate import left_out_callbacks, seed_everything, untouched
from diagnose.lab import Lab
from diagnose.samples import samples
from diagnose.subject import Subject, environment
from diagnose.trial import LEARNED, BudgetSpent, level

BASELINE = "overfit-one-batch"
LADDER = "learning-rate-ladder"
LATE = 36  # order from which on trials are run one by one, each only if nothing is proven by then
LABELS = "labels-informative"
GAUGES = "gauges"  # folder of a run: what the gauges recorded while it trained on one batch


@dataclass
class Progress:
    """Told what happens, for a display. Every callable may be replaced; the defaults stay silent."""

    doing: Callable[[str], None] = lambda text: None
    done: Callable[[CheckResult], None] = lambda result: None


@dataclass
class _State:
    checks: list[CheckResult] = field(default_factory=list)
    causes: list[CauseResult] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    settled: dict[str, Settled | None] = field(default_factory=dict)
    suspicions: dict[str, Suspicion] = field(default_factory=dict)  # that only a set of changes brought up
    left_out_for_time: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    samples: list = field(default_factory=list)


def examine(
    subject: Subject,
    seed: int = 0,
    budget: float | None = 60.0,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    everything: bool = False,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examine a subject, which is afterwards bit for bit what it was.

    Args:
        seed: starts every random stream of every measurement: same seed, same report, timings aside.
        budget: seconds allowed; None for no bound. What does not fit is listed as not checked.
        only: ids of checks to run, all if empty. skip: ids of checks and causes to leave out.
        everything: run the extra checks too, which else run only when something failed and no cause is proven.

    Returns:
        The diagnosis; `partial` if it was interrupted (Ctrl-C).

    Raises:
        DiagnoseError: an unknown id, or a subject that cannot be examined (no batch, a model that cannot be copied).
        SubjectError: the subject's own code raised; its `diagnosis` holds what the checks found by then, among it what
            explains the error, if any check does.
    """
    return _Examination(subject, seed, budget, set(only), set(skip), everything, progress or Progress()).run()


class _Examination:
    def __init__(self, subject, seed, budget, only, skip, everything, progress):
        self.subject, self.seed, self.budget, self.progress = subject, seed, budget, progress
        self.checks: dict[str, Check] = registry.load_all("diagnose.checks", Check)
        self.causes: dict[str, Cause] = registry.load_all("diagnose.causes", Cause)
        for id in sorted((only - self.checks.keys()) | (skip - self.checks.keys() - self.causes.keys())):
            raise DiagnoseError(f"no check {id}; `diagnose list checks` shows them")
        self.only, self.skip, self.everything = only, skip, everything
        self.state = _State()
        self.raised: SubjectError | None = None

    def run(self) -> Diagnosis:
        self.start = time.monotonic()
        deadline = None if self.budget is None else self.start + self.budget
        partial = False
        with untouched(self.subject.learner) as learn, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch would warn of is what the checks report
            seed_everything(self.seed)
            self.lab = Lab(self.subject, self.seed, deadline, self.progress.doing)
            try:
                self.progress.doing("reading the first batch")
                self._read_first_batch()
                for name, why in left_out_callbacks(learn).items():
                    self.state.unchecked.append(Unchecked(id=f"callback {name}", reason=f"left out of trials: {why}"))
                self._examine()
                self._sample()
            except KeyboardInterrupt:
                partial = True
            except SubjectError as e:
                self.raised = e
            diagnosis = self._diagnosis(partial)
        del self.lab
        gc.collect()  # a Learner and its callbacks hold each other: their copies would stay until the next collection
        if self.raised:
            self.raised.diagnosis = diagnosis
            raise self.raised
        return diagnosis

    def _read_first_batch(self) -> None:
        try:
            _ = self.lab.whole_batch, self.lab.xb
        except SubjectError as e:
            self.raised = e  # an inspection may name the item at fault

    # ---- the plan ------------------------------------------------------------------------------------------------

    def _examine(self) -> None:
        stages = ("inspection", "probe", "trial")
        every = sorted(self.checks.values(), key=lambda c: (stages.index(c.stage), c.order, c.id))
        extra = [c for c in every if c.extra and not self.everything and c.id not in self.only]
        plan = [c for c in every if c not in extra]
        trials = [c for c in plan if c.stage == "trial"]
        self._run_checks(c for c in plan if c.stage != "trial")
        if self.raised:
            self._settle("inspection")
            self._settle("trial")
            self._leave_out_all(trials + extra, "the subject's own code raises on its own batch")
            return
        if self._value("gradient-flow", "loss has a gradient", True) is False:
            self._leave_out_all(trials + extra, "the loss has no gradient: nothing can be trained")
            self._settle("inspection")
            return
        early = [c for c in trials if c.order < LATE]
        self._run_checks(early)
        self._settle("inspection")
        if not self._proven():
            self._settle("trial")
        late, last = self._order_late([c for c in trials if c not in early])
        self._until_proven(late)
        if any(c.status == "fail" for c in self.state.checks) and not self._proven():
            self._search(extra)
            self._until_proven(last)
            if not self._proven():
                self._settle_together()
        else:
            self._leave_out_all(extra, "an extra check: --all or --only runs it")
            self._until_proven(last)

    def _order_late(self, late: list[Check]) -> tuple[list[Check], list[Check]]:
        """Trials beyond one batch, as they run, and those that run after the extra checks. Where the batch is learned
        the ladder comes last, since no rung changes the verdict then. Where it is not, what is learned of many rows
        says least."""
        if self._learned():
            return sorted(late, key=lambda c: c.id == LADDER), []
        return [c for c in late if c.id != LABELS], [c for c in late if c.id == LABELS]

    def _until_proven(self, checks: Iterable[Check]) -> None:
        rest = list(checks)
        while rest and not self._proven():
            self._run_checks([rest.pop(0)])
            self._settle("inspection")
            self._settle("trial")
        self._leave_out_all(rest, "not needed: a cause is proven already")

    def _search(self, extra: list[Check]) -> None:
        "Extra checks, then the proofs of what they brought up; before the time for a pair of trials is gone, at once."
        rest = list(extra)
        trained = self.lab.__dict__.get("baseline")
        reserve = 2 * trained.seconds if trained else 0.0
        while rest and not self._proven():
            self._run_checks([rest.pop(0)])
            if self.lab.time_left < reserve:
                self._settle("trial")
        self._leave_out_all(rest, "not needed: a cause is proven already")
        self._settle("trial")

    def _leave_out_all(self, checks: Iterable[Check], reason: str) -> None:
        for check in checks:
            if self._wanted(check.id):
                self._leave_out(check.id, reason)

    def _wanted(self, id: str) -> bool:
        return id not in self.skip and (not self.only or id in self.only)

    def _run_checks(self, checks: Iterable[Check]) -> None:
        for check in checks:
            if not self._wanted(check.id):
                reason = "left out by --skip" if check.id in self.skip else "left out by --only"
                self._leave_out(check.id, reason)
            elif self.lab.time_left <= 0:
                self._out_of_time(check.id)
            else:
                self._run_check(check)

    def _run_check(self, check: Check) -> None:
        self.progress.doing(check.id.replace("-", " "))
        began = time.monotonic()
        try:
            evidence = check.measure(self.lab)
        except NotApplicable as e:
            return self._leave_out(check.id, str(e))
        except BudgetSpent:
            return self._out_of_time(check.id)
        except SubjectError as e:
            if check.stage == "trial":
                raise
            if self._value("gradient-flow", "loss has a gradient", True) is False:
                return self._leave_out(check.id, "the loss has no gradient: nothing can be trained")
            self.raised = self.raised or e  # a later inspection or probe may explain it
            return self._leave_out(check.id, str(e))
        status, summary = check.judge(evidence)
        result = CheckResult(
            id=check.id, status=status, summary=summary, seconds=time.monotonic() - began, evidence=list(evidence)
        )
        self.state.findings[check.id] = evidence
        self.state.checks.append(result)
        self.progress.done(result)
        return None

    def _leave_out(self, id: str, reason: str) -> None:
        self.state.unchecked.append(Unchecked(id=id, reason=reason))

    def _out_of_time(self, id: str) -> None:
        if not (id == LADDER and self._learned()):  # no rung changes the verdict then
            self.state.left_out_for_time = True
        self._leave_out(id, f"the budget of {self.budget:.0f} s was spent")

    # ---- causes --------------------------------------------------------------------------------------------------

    def _settle(self, how: str) -> None:
        "Settle suspected causes of one kind, the most strongly suspected first, until one is proven."
        suspected = []
        for cause in self.causes.values():
            if cause.id in self.skip or cause.id in self.state.settled or cause.kind != "cause":
                continue
            if cause.settled_by == how and (suspicion := cause.suspect(self.state.findings)):
                suspected.append((cause, suspicion))
        for cause, suspicion in sorted(suspected, key=lambda cs: (-cs[1].strength, cs[0].id)):
            if not cause.when_learned and self._learned():
                continue
            if self._proven() and how == "trial" and not self._could_explain_proven(cause):
                continue  # a further cure can change neither the verdict nor what stands first
            self._settle_one(cause, suspicion)

    def _could_explain_proven(self, cause: Cause) -> bool:
        return any(id in cause.explains for id, s in self.state.settled.items() if s and s.proven)

    def _settle_one(self, cause: Cause, suspicion: Suspicion) -> None:
        self.progress.doing(f"is it {cause.id.replace('-', ' ')}? the change that would cure it, on a copy")
        self.state.settled[cause.id] = None
        if self.lab.time_left <= 0:
            return self._out_of_time(cause.id)
        try:
            self.state.settled[cause.id] = cause.settle(self.lab, suspicion)
        except NotApplicable as e:
            self._leave_out(cause.id, f"its cure could not be tried: {e}")
        except SubjectError as e:
            self._leave_out(cause.id, f"its cure could not be tried: {e}")
        except BudgetSpent:
            self._out_of_time(cause.id)
        return None

    def _settle_together(self) -> None:
        "No single change restores learning: look for two or three that do, each of them needed."
        learned = self._value(BASELINE, "learned", math.nan)
        unlearned = any(c.id == BASELINE and c.status == "fail" for c in self.state.checks)
        if not math.isfinite(learned) or not unlearned:
            return  # where a constant suffices there is nothing that a change could restore
        self.progress.doing("do two faults stand together? their cures, on a copy")
        try:
            found = combining.search(self.lab, self._parts(), level(learned))
            if len(found) == 1 and self.state.settled.get(found[0][0].cause.id):
                return  # by itself it was tried, and its own proof asks for more than a learned batch
            for part, settled in found:
                self.state.suspicions[part.cause.id] = part.suspicion
                self.state.settled[part.cause.id] = settled
        except BudgetSpent:
            self._out_of_time("two causes at once")

    def _parts(self) -> list[combining.Part]:
        "Suspected causes that a change would cure, and the rungs around the configured rate."
        parts = []
        for cause in self.causes.values():
            if cause.kind != "cause" or cause.settled_by != "trial" or cause.id in self.skip:
                continue
            if suspicion := cause.suspect(self.state.findings):
                settled = self.state.settled.get(cause.id)
                alone = settled.proof.after.learned if settled and settled.proof.kind == "trial" else None
                with suppress(NotApplicable, NotImplementedError):
                    parts.append(combining.Part(cause, suspicion, cause.cure(self.lab, suspicion), level(alone)))
        rate = rate_text(self.subject.learner.lr)
        for id, factors in (("lr-too-high", (0.1, 1e-2, 1e-4)), ("lr-too-low", (10.0, 1e2, 1e4, 1e6))):
            if id in self.skip or id not in self.causes or any(p.cause.id == id for p in parts):
                continue
            for factor in factors:
                change = learning_rate(self.subject.learner, factor)
                reason = f"at {rate} the other change does not restore learning, at {factor:g} times that it does"
                suspicion = Suspicion(0.3, reason, [f"lr={rate}"], {"factor": factor})
                parts.append(combining.Part(self.causes[id], suspicion, change))
        return parts

    def _proven(self) -> bool:
        return any(s and s.proven for s in self.state.settled.values())

    def _learned(self) -> bool:
        return self._value(BASELINE, "learned", math.nan) >= LEARNED

    def _value(self, check: str, name: str, default):
        return self.state.findings.value(check, name, default)

    def _cause_results(self) -> list[CauseResult]:
        results = []
        for cause in self.causes.values():
            if cause.id in self.skip:
                continue
            asked = _Asked(self.state.findings)
            suspicion = self.state.suspicions.get(cause.id) or cause.suspect(asked)
            if suspicion is None:
                continue
            settled = self.state.settled.get(cause.id)
            # the batch is learned with it, or nothing was trained: it explains nothing but a doubt of its own checks
            idle = self.raised or (self._learned() and not cause.when_learned)
            if settled is None and idle and not self._doubted(asked.checks):
                continue
            results.append(
                CauseResult(
                    id=cause.id,
                    score=_score(suspicion, settled, self._learned(), cause.when_learned),
                    proven=bool(settled and settled.proven),
                    refuted=bool(settled and settled.refuted),
                    where=suspicion.where,
                    summary=suspicion.reason,
                    fix=cause.fix(self.lab, suspicion),
                    proof=settled.proof if settled else None,
                )
            )
        return in_order(results, self.causes)

    def _doubted(self, asked: Iterable[str]) -> bool:
        "Whether one of the checks that a suspicion rests on has a doubt: it has a name then, though nothing is proven."
        return any(c.id in asked and c.status in ("warn", "fail") for c in self.state.checks)

    def _checklist(self, results: list[CauseResult]) -> list[Answer]:
        "Could it be this? Every cause, with the reason for the answer."
        by_id = {r.id: r for r in results}
        return [
            Answer(id=c.id, questions=list(c.questions), **self._answer(c, by_id.get(c.id)))
            for c in self.causes.values()
        ]

    def _answer(self, cause: Cause, result: CauseResult | None) -> dict[str, str]:
        if result and result.proven:
            with_it = f"; {result.proof.change}: {result.proof.after.summary}" if result.proof else ""
            return {"answer": "yes", "reason": f"{result.summary}{with_it}"}
        if result and result.refuted:
            tried = f"{result.proof.change} made no difference: {result.proof.after.summary}"
            return {"answer": "no", "reason": f"{result.summary}; but {tried}"}
        if result:
            if cause.kind == "symptom" and (proven := [id for id, s in self.state.settled.items() if s and s.proven]):
                return {"answer": "no", "reason": f"{result.summary}: what {' and '.join(proven)} looks like"}
            return {"answer": "suspected", "reason": result.summary}
        if cause.id in self.skip:
            return {"answer": "not tested", "reason": "left out by --skip"}
        asked = _Asked(self.state.findings)
        if suspicion := cause.suspect(asked):
            learned = self._value(BASELINE, "learned", math.nan)
            fine = f"is fine, since the batch is learned with it ({learned:.0%})"
            return {"answer": "no", "reason": f"looks like it: {suspicion.reason}; {fine}"}
        read = [c for c in asked.checks if c in self.state.findings]
        undecided = {c.id: c.summary for c in self.state.checks if c.status == "skip"}
        if read and all(c in undecided for c in read):
            return {"answer": "not tested", "reason": "; ".join(f"{c}: {undecided[c]}" for c in read)}
        if read or not asked.checks:
            return {"answer": "no", "reason": f"nothing measured points there (read: {', '.join(read)})"}
        return {"answer": "not tested", "reason": f"not measured: {', '.join(asked.checks)}"}

    # ---- the diagnosis ---------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        if self.raised:
            return
        self.progress.doing("pictures of the batch")
        try:
            trained = self.lab.__dict__.get("baseline")
            self.state.samples, self.state.files = samples(self.lab, trained.learner.model if trained else None)
        except (NotApplicable, BudgetSpent):
            pass

    def _diagnosis(self, partial: bool) -> Diagnosis:
        causes = self._cause_results()
        trained = self.lab.__dict__.get("baseline")
        recorded = trained.recorded if trained else None
        verdict, summary = self._verdict(causes, partial)
        diagnosis = Diagnosis(
            schema=1,
            tool=Tool(name="diagnose", version=version("learner-diagnose")),
            subject=self.subject.describe(self.lab.__dict__.get("whole_batch")),
            environment=environment(self.lab.device),
            seed=self.seed,
            verdict=verdict,
            summary=summary,
            partial=partial,
            seconds=time.monotonic() - self.start,
            budget=self.budget,
            causes=causes,
            checklist=self._checklist(causes),
            checks=self.state.checks,
            unchecked=self.state.unchecked,
            samples=self.state.samples,
            gauges=GAUGES if recorded else None,
        )
        diagnosis.files.update(self.state.files)
        if recorded:
            diagnosis.files.update({f"{GAUGES}/{name}": data for name, data in recorded.files().items()})
        return diagnosis

    def _verdict(self, causes: list[CauseResult], partial: bool) -> tuple[Verdict, str]:
        proven = [c for c in causes if c.proven and self.causes[c.id].fails]
        past = [c for c in causes if c.proven and not self.causes[c.id].fails]
        failed = [c for c in self.state.checks if c.status == "fail"]
        warned = [c for c in self.state.checks if c.status == "warn"]
        if proven:
            first = proven[0]
            others = f" (and {', '.join(c.id for c in proven[1:])})" if proven[1:] else ""
            return (
                "fail",
                f"It cannot learn as it is, and the cause is proven: {first.id}{others}. {_sentence(first.summary)}",
            )
        if decisive := [c for c in failed if self.checks[c.id].decisive]:
            return "fail", f"It cannot learn as it is: {decisive[0].summary}."
        if self.raised:
            return "fail", f"It cannot learn: its own code raised while {self.raised}."
        if partial:
            return "warn", "Interrupted before the verdict; what had been measured is here."
        if failed:
            ruled_out = [c.id for c in causes if c.refuted]
            note = f" Ruled out: {', '.join(ruled_out)}." if ruled_out else ""
            return "warn", f"Something is wrong, and no cause is proven: {failed[0].id}: {failed[0].summary}.{note}"
        if past:
            return (
                "warn",
                f"It can learn, and it is proven why its last run did not: {past[0].id}. {_sentence(past[0].summary)}",
            )
        if warned:
            return "warn", f"It may learn, with a doubt: {warned[0].id}: {warned[0].summary}."
        if self.state.left_out_for_time:
            return "warn", f"Nothing wrong was found, but the budget of {self.budget:.0f} s did not allow every check."
        baseline = next((c for c in self.state.checks if c.id == BASELINE), None)
        if baseline is None:
            return "warn", "Nothing wrong was found, but whether one batch can be learned was not checked."
        return "pass", f"It can learn: {baseline.summary}."


class _Asked(Findings):
    "Findings that remember which checks were asked for."

    def __init__(self, findings: Findings):
        super().__init__(findings)
        self.checks: dict[str, None] = {}

    def __contains__(self, check: object) -> bool:
        self.checks[str(check)] = None
        return super().__contains__(check)

    def __getitem__(self, check: str):
        self.checks[check] = None
        return super().__getitem__(check)

    def get(self, check: str, default=None):
        self.checks[check] = None
        return super().get(check, default)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _score(suspicion: Suspicion, settled: Settled | None, learned: bool, when_learned: bool) -> float:
    if settled and settled.proven:
        return round(0.9 + 0.1 * suspicion.strength, 3)
    if settled and settled.refuted:
        return 0.05
    score = 0.8 * suspicion.strength
    if settled and settled.proof.kind == "trial":
        score *= 0.5 + 0.5 * min(level(settled.proof.after.learned), 1.0)  # a cure counts for what it restored
    if learned and settled:
        score = min(score, 0.3)  # tried, unproven, and no hindrance
    elif learned and not when_learned:
        score /= 2  # a doubt, and no hindrance so far
    return round(score, 3)


def in_order(results: list[CauseResult], causes: dict[str, Cause]) -> list[CauseResult]:
    """Causes, the most certain first: proven before suspected before refuted before symptoms; a cause stands before
    those that it explains."""
    rank = {r.id: (causes[r.id].kind != "cause", r.refuted, not r.proven, -r.score, r.id) for r in results}
    left, ordered = sorted(results, key=lambda r: rank[r.id]), []
    while left:
        free = next((r for r in left if not any(_explains(o, r, causes) for o in left if o is not r)), left[0])
        left.remove(free)
        ordered.append(free)
    return ordered


def _explains(a: CauseResult, b: CauseResult, causes: dict[str, Cause]) -> bool:
    return b.id in causes[a.id].explains and a.proven and b.proven
