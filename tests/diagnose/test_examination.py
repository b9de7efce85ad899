"""What is concluded from evidence: order of causes, verdicts, what is left out."""

import io
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from learners import ThroughNumpy, digits
from PIL import Image
from torch import nn
from watched import mlp

from diagnose import registry
from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.checks import EvidenceList
from diagnose.diagnosis import QUESTIONS, CauseResult, Diagnosis, Fix, Proof, Side
from diagnose.errors import DiagnoseError
from diagnose.evidence import Evidence
from diagnose.examination import _score, examine, in_order
from diagnose.faults import Fault
from diagnose.lab import Lab
from diagnose.samples import samples
from diagnose.subject import from_learner, from_task
from diagnose.trial import forward

CAUSES = registry.load_all("diagnose.causes", Cause)
FAULTS = registry.load_all("diagnose.faults", Fault)


def result(id, score=0.95, proven=True, refuted=False):
    return CauseResult(id=id, score=score, proven=proven, refuted=refuted, summary="x", fix=Fix(text="", code=""))


def test_the_cause_nearest_to_the_defect_stands_first():
    both = [result("lr-too-high", 0.99), result("loss-scale", 0.95)]
    assert [r.id for r in in_order(both, CAUSES)] == ["loss-scale", "lr-too-high"]


def test_proven_stands_before_suspected_before_refuted_before_symptom():
    results = [
        result("output-collapse", 0.3, False),
        result("init-constant", 0.05, False, True),
        result("params-frozen", 0.6, False),
        result("lr-too-low", 0.9),
    ]
    ordered = [r.id for r in in_order(results, CAUSES)]
    assert ordered == ["lr-too-low", "params-frozen", "init-constant", "output-collapse"]


def test_an_unproven_cure_counts_for_what_it_restored():
    def tried(learned):
        proof = Proof(
            change="x", kind="trial", before=Side(summary="", learned=0.0), after=Side(summary="", learned=learned)
        )
        return _score(Suspicion(0.6, "x"), Settled(False, False, proof), False, False)

    assert tried(0.1) < tried(0.4) < _score(Suspicion(0.6, "x"), None, False, False)
    assert tried(float("nan")) == tried(-3.0) == tried(0.0)


def test_no_cause_explains_in_a_circle():
    for a in CAUSES.values():
        for id in a.explains:
            assert id in CAUSES, f"{a.id} explains {id}, which does not exist"
            assert a.id not in CAUSES[id].explains


@pytest.mark.parametrize("id", CAUSES)
def test_no_evidence_is_no_suspicion(id):
    assert CAUSES[id].suspect(Findings()) is None


@pytest.mark.parametrize("id", CAUSES)
def test_a_cause_explains_itself_under_the_agreed_headings(id):
    doc = CAUSES[id].doc
    headings = [line for line in doc.splitlines() if line.startswith("## ")]
    assert headings == [
        *("## What it is", "## Why it stops learning", "## How it is found", "## How it is proven"),
        *("## How to fix", "## What it looks like but is not", "## Source"),
    ]
    assert doc.splitlines()[0].endswith(".")


VOCABULARY = """
labels-uninformative labels-misaligned-between-splits labels-constant labels-imbalanced labels-out-of-range
labels-noisy targets-not-scaled inputs-not-normalised inputs-nonfinite inputs-constant
inputs-destroyed-by-transforms inputs-differ-between-splits loader-not-shuffled loader-repeats-random-numbers
items-nondeterministic train-valid-leak loss-target-shape-broadcast loss-double-activation
loss-missing-activation loss-wrong-for-task loss-sign-flipped loss-detached loss-scale
params-missing-from-optimizer params-frozen graph-broken params-outside-module input-ignored batch-mixing
norm-wrong-axis softmax-wrong-axis activation-missing activation-saturated activation-broken dead-units
output-range-mismatch capacity-too-small dropout-too-high shared-encoder-norm-drift head-too-weak
representation-collapse eval-mode-in-training norm-statistics-gap weights-not-loaded frozen-still-training
init-constant init-scale-too-large init-scale-too-small init-output-bias lr-too-high lr-too-low
optimizer-not-stepping gradients-not-zeroed weight-decay-too-high momentum-too-high gradient-clip-too-tight
schedule-starves steps-too-few optimizer-epsilon-too-large early-stopping-misconfigured batch-too-small
gradients-vanishing gradients-exploding output-collapse loss-nonfinite loss-plateau learns-noise-alike
task-too-hard
"""


def test_causes_are_ids_of_the_vocabulary():
    assert set(CAUSES) <= set(VOCABULARY.split())


def test_a_slow_rate_that_moves_the_weights_is_not_suspected():
    ladder = EvidenceList(
        [
            Evidence(name="powers of ten to the best rung", value=2),
            Evidence(name="learned at the configured rate", value=0.05),
            Evidence(name="learned at the best rung", value=1.0),
            Evidence(name="configured rate", value="1e-05"),
            Evidence(name="best rung", value="0.001"),
        ]
    )
    moved = lambda v: EvidenceList([Evidence(name="weights moved by", value=v)])  # noqa: E731
    low = CAUSES["lr-too-low"]
    assert low.suspect(Findings({"learning-rate-ladder": ladder, "weight-change": moved(0.03)})) is None
    assert low.suspect(Findings({"learning-rate-ladder": ladder, "weight-change": moved(1e-5)})).facts == {
        "factor": 100
    }


def test_refuted_causes_are_told():
    learn = digits(lr=30.0)
    for p in learn.model[0].parameters():
        p.requires_grad_(False)
    diagnosis = examine(from_learner(learn), budget=None)
    frozen = next(c for c in diagnosis.causes if c.id == "params-frozen")
    assert frozen.refuted
    assert diagnosis.cause.id == "lr-too-high"


def test_a_subject_that_learns_with_a_frozen_part_is_not_accused_of_it():
    learn = digits()
    for p in learn.model[0].parameters():
        p.requires_grad_(False)
    diagnosis = examine(from_learner(learn), budget=None)
    assert diagnosis.verdict == "pass"
    told = diagnosis.check("one-step-moves").summary  # batch norm inside the frozen part goes on moving
    assert told.startswith("looks like a freeze that does not freeze: ")
    assert "is fine because evaluation mode" in told
    assert all(c.refuted for c in diagnosis.causes), [(c.id, c.summary) for c in diagnosis.causes]


def test_a_doubt_of_a_subject_that_learns_has_a_name():
    learn = digits(lr=3e-2)
    with torch.no_grad():
        learn.model[-1].bias[0] += 300
    diagnosis = examine(from_learner(learn), budget=None)
    assert (diagnosis.verdict, diagnosis.check("overfit-one-batch").status) == ("warn", "pass")
    first = diagnosis.causes[0]
    assert (first.id, first.proven, first.proof) == ("init-output-bias", False, None)
    assert 0 < first.score <= 0.4
    assert not examine(from_learner(digits(lr=3e-2)), budget=None).causes


def test_a_fault_without_a_cause_is_a_warning_and_not_a_guess():
    class Negated(nn.Module):
        def forward(self, pred, target):
            return -nn.functional.cross_entropy(pred.clamp(-5, 5), target)

    net = nn.Sequential(mlp(64, 32, 10), nn.Dropout(0.99))
    diagnosis = examine(from_learner(digits(loss_func=Negated(), model=net)), budget=None)
    assert diagnosis.verdict == "warn"
    assert not [c for c in diagnosis.causes if c.proven]
    assert "no cause is proven" in diagnosis.summary


def test_a_loss_without_gradient_is_told_and_not_trained():
    class Detached(nn.Module):
        def forward(self, pred, target):
            return nn.functional.cross_entropy(pred.detach(), target)

    diagnosis = examine(from_learner(digits(loss_func=Detached())), budget=None)
    assert diagnosis.check("gradient-flow").status == "fail"
    assert diagnosis.verdict in ("warn", "fail")
    assert any("nothing can be trained" in u.reason for u in diagnosis.unchecked)


def test_a_trip_through_numpy_is_named_although_its_cure_cannot_be_tried():
    diagnosis = examine(from_learner(digits(model=ThroughNumpy())), budget=None)
    first = diagnosis.causes[0]
    assert (first.id, first.proven) == ("graph-broken", True)
    assert first.proof.after.numbers == {"with a gradient": 0}
    assert "neither detach nor no_grad" in first.proof.after.summary


def test_a_loss_without_lower_bound_says_so():
    def negated(pred, target):
        return -nn.functional.cross_entropy(pred, target)

    diagnosis = examine(from_learner(digits(loss_func=negated)), only=["overfit-one-batch"])
    assert diagnosis.check("overfit-one-batch").status == "fail"
    assert "has no lower bound" in diagnosis.summary


def test_only_and_skip():
    diagnosis = examine(from_learner(digits()), only=["initialisation", "first-loss"], skip=["first-loss"])
    assert [c.id for c in diagnosis.checks] == ["initialisation"]
    assert {"first-loss", "overfit-one-batch"} <= {u.id for u in diagnosis.unchecked}
    with pytest.raises(DiagnoseError, match="no check nonsense"):
        examine(from_learner(digits()), only=["nonsense"])


def test_two_faults_at_once_are_both_named():
    learn = digits()
    FAULTS["wrong-view"].inject(learn)
    FAULTS["head-replaced"].inject(learn)
    proven = {c.id for c in examine(from_learner(learn), budget=None).causes if c.proven}
    assert {"batch-mixing", "params-missing-from-optimizer"} <= proven


def test_the_diagnosis_survives_json():
    diagnosis = examine(from_learner(digits(lr=1e30)), budget=None)
    assert Diagnosis.from_json(diagnosis.to_json()).to_json() == diagnosis.to_json()
    assert "NaN" in diagnosis.to_json()


def test_learn_diagnose_shows_and_returns(capsys):
    diagnosis = digits().diagnose(only=["initialisation"])
    assert diagnosis.check("initialisation").status == "pass"
    assert "initialisation" in capsys.readouterr().out
    frame = diagnosis._repr_html_()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(frame)
    assert tags == ["iframe"], "nothing of the page stands outside its frame"


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "target", "size"), [(0, "classification", 64), (1, "regression", 32)])
def test_healthy_unmix_passes(seed, target, size):
    "Ten seeds: reports/thresholds.md."
    subject = from_task("unmix", {"target": target, "size": size}, seed, "cpu")
    diagnosis = examine(subject, seed=seed, budget=None)
    assert diagnosis.verdict == "pass", diagnosis.summary


def test_samples_are_pictures_with_labels_and_predictions():
    diagnosis = examine(from_learner(digits()), only=["overfit-one-batch"])
    first = diagnosis.samples[0]
    assert first.inputs[0].file in diagnosis.files
    assert diagnosis.files[first.inputs[0].file].startswith(b"\x89PNG")
    assert first.target.startswith("class")
    assert first.target in first.prediction
    assert first.loss < 0.5
    assert torch.isfinite(torch.tensor(first.loss))


def test_f23_the_picture_shown_is_of_the_row_that_was_scored():
    lab = Lab(from_learner(digits()))
    rows, files = samples(lab, lab.baseline.learner.model)
    output = forward(lab.baseline.learner.model, lab.xb)
    for i, row in enumerate(r for r in rows if not r.rank):
        pixels = np.asarray(Image.open(io.BytesIO(files[row.inputs[0].file])))
        x = lab.xb[0][i, 0]
        shown = torch.tensor(pixels[::16, ::16].copy()).float()  # 8 px enlarged to 128 px
        assert torch.allclose(shown, ((x - x.min()) / (x.max() - x.min()) * 255).round(), atol=1)
        assert row.target == f"class {int(lab.yb[0][i])}"
        assert row.prediction.startswith(f"class {int(output[i].argmax())} ")
        loss = torch.nn.functional.cross_entropy(output[i : i + 1], lab.yb[0][i : i + 1])
        assert row.loss == pytest.approx(float(loss), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("rate", [30.0, 1e-8])
def test_f22_the_ladder_says_where_the_rate_stands(rate):
    diagnosis = examine(
        from_learner(digits(lr=rate)), only=["overfit-one-batch", "weight-change", "learning-rate-ladder"]
    )
    assert diagnosis.check("learning-rate-ladder").status == "fail"
    assert diagnosis.cause.id == ("lr-too-high" if rate > 1 else "lr-too-low")


def test_every_cause_is_answered_and_what_was_not_measured_is_not_tested():
    found = examine(from_learner(digits()), budget=None, only=["optimizer-holds-parameters", "first-loss"])
    answers = {a.id: a for a in found.checklist}
    assert set(answers) == set(CAUSES)
    assert answers["params-missing-from-optimizer"].answer == "no"
    assert "optimizer-holds-parameters" in answers["params-missing-from-optimizer"].reason
    assert answers["lr-too-high"].answer == "not tested"
    assert "learning-rate-ladder" in answers["lr-too-high"].reason or "overfit" in answers["lr-too-high"].reason


def test_a_proven_cause_is_answered_with_its_proof():
    learn = digits()
    FAULTS["head-replaced"].inject(learn)
    found = examine(from_learner(learn), budget=None, only=["optimizer-holds-parameters", "overfit-one-batch"])
    answer = next(a for a in found.checklist if a.id == "params-missing-from-optimizer")
    assert answer.answer == "yes"
    assert found.cause.proof.after.summary in answer.reason


def test_what_looks_odd_and_is_learned_is_said_to_be_fine():
    learn = digits()
    learn.model[0].requires_grad_(False)  # declared by nobody
    found = examine(from_learner(learn), budget=None, only=["optimizer-holds-parameters", "overfit-one-batch"])
    answer = next(a for a in found.checklist if a.id == "params-frozen")
    assert found.verdict != "fail"
    assert answer.answer == "no"
    assert answer.reason.startswith("looks like it: ")
    assert "is fine, since the batch is learned" in answer.reason


def test_every_question_of_the_notes_is_answered_by_a_cause():
    answered = {q for c in CAUSES.values() for q in c.questions}
    assert answered <= set(QUESTIONS)
    assert set(QUESTIONS) - answered == {11}  # the items' distribution: `easier-versions` brackets it
