"""Hand-made diagnoses that a report must survive: the ordinary, the empty and the hostile."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from diagnose.diagnosis import (
    Answer,
    CauseResult,
    CheckResult,
    Diagnosis,
    Fix,
    Proof,
    Sample,
    SampleInput,
    Side,
    SubjectInfo,
    Tool,
    Unchecked,
)
from diagnose.evidence import Evidence
from diagnose.store import Store

SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    SCRIPT,
    '"><img src=x onerror=alert(2)>',
    "'onmouseover='alert(3)",
    "{{ 7*7 }}{% raw %}",
    "]]></style></svg><!--",
    "[bold red]markup[/bold red][/]",
    "\x1b[31mred\x1b[0m\x07\x9b2J",
    "\u202eשלום right to left",
    "🧪🔥" * 12,
    "encoder." + "block." * 50 + "weight",
    "a" * 300,
]


@cache
def png(width: int, height: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (3, 3, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def falling(steps: int, start: float = 0.69, end: float = 0.02, noise: float = 0.02) -> list[float]:
    rng = np.random.default_rng(0)
    t = np.arange(steps)
    return [float(v) for v in end + (start - end) * np.exp(-t / (steps / 5)) + noise * rng.standard_normal(steps) ** 2]


def diverging(steps: int = 60, broken: int = 9) -> list[float]:
    curve = [0.71 * 3.1**i for i in range(broken)]
    return curve + [math.nan] * (steps - broken)


def by_trial(**changes) -> Proof:
    kept = {
        "change": "lr = 0.003 instead of 30",
        "kind": "trial",
        "before": Side(
            summary="The loss leaves 0.71 upwards and is NaN from step 9.",
            learned=0.0,
            loss=diverging(),
            best_constant=0.637,
            floor=0.0,
            numbers={"gradient norm, first": 1.204, "gradient norm, last": math.nan, "update / weight": 41.7},
        ),
        "after": Side(
            summary="The loss falls from 0.71 to 0.03.",
            learned=0.95,
            loss=falling(60),
            best_constant=0.637,
            floor=0.0,
            numbers={"gradient norm, first": 1.204, "gradient norm, last": 0.081, "update / weight": 0.0021},
        ),
    }
    return Proof(**(kept | changes))


def lr_too_high() -> CauseResult:
    return CauseResult(
        id="lr-too-high",
        score=0.99,
        proven=True,
        where=["optimizer group 0", "optimizer group 1"],
        summary="The learning rate 30 is too high: the same batch is learned at 0.003.",
        fix=Fix(
            text="Train at a learning rate of about 0.003; learn.lr_find() draws the whole picture.",
            code="learn = unmix_learner(lr=3e-3)\nlearn.fit_one_cycle(10, lr_max=3e-3)  # was 30",
        ),
        proof=by_trial(),
    )


def ladder_check(configured: float = 3e-3, status: str = "pass") -> CheckResult:
    rungs = [(3e-5, 0.04), (3e-4, 0.51), (3e-3, 0.97), (3e-2, 0.62), (3e-1, 0.02), (3.0, math.nan)]
    return CheckResult(
        id="learning-rate-ladder",
        status=status,
        summary="The best rung of six is 0.003, which learned 0.97; not finite from 3 on.",
        seconds=14.2,
        evidence=[Evidence(name="configured rate", value=f"{configured:.0e}")]
        + [
            Evidence(
                name="learned", value=v, unit="share", where=f"lr={r:.0e}", expected=">= 0.8 at the configured rate"
            )
            for r, v in rungs
        ],
    )


def checks() -> list[CheckResult]:
    layers = ["encoder.0", "encoder.3", "encoder.6", "head.0", "head.2"]
    return [
        CheckResult(
            id="gradient-flow",
            status="pass",
            summary="All 18 trainable parameters get a finite, non-zero gradient, at least 0.0021 (encoder.0).",
            seconds=0.31,
            evidence=[
                Evidence(
                    name="gradient norm", value=0.0021 * 3**i, unit="loss / weight", where=f"{n}.weight", expected="> 0"
                )
                for i, n in enumerate(layers)
            ],
        ),
        CheckResult(
            id="overfit-one-batch",
            status="pass",
            summary="The loss of one batch fell from 0.691 to 0.028 in 200 steps: 0.96 of what there is to learn.",
            seconds=9.74,
            evidence=[
                Evidence(name="loss", value=falling(200), unit="loss", where="batch 0"),
                Evidence(name="best constant", value=0.637, unit="loss"),
                Evidence(name="floor", value=0.0, unit="loss"),
                Evidence(name="learned", value=0.957, unit="share", expected=">= 0.8"),
                Evidence(name="steps", value=200, unit="steps", expected=">= 200"),
                Evidence(name="distinct labels", value=3, expected=">= 2"),
            ],
        ),
        ladder_check(),
        CheckResult(
            id="initial-loss",
            status="warn",
            summary="The first loss is 0.741, 1.16 times the best constant 0.637.",
            seconds=0.12,
            evidence=[Evidence(name="first loss", value=0.741, unit="loss", expected="<= 1.1 x 0.637")],
        ),
        CheckResult(
            id="identical-pairs",
            status="skip",
            summary="The task declares no identical pairs.",
            seconds=0.0,
        ),
    ]


def samples(diagnosis_files: dict[str, bytes], count: int = 6) -> list[Sample]:
    rows = []
    for i in range(count):
        inputs = []
        for j, title in enumerate(["source 1", "source 2", "source 3", "mixture"]):
            name = f"batch/{i}-{j}.png"
            diagnosis_files[name] = png(64, 64, i * 4 + j)
            inputs.append(SampleInput(title=title, file=name))
        rows.append(
            Sample(
                inputs=inputs, target="sources 1, 3", prediction="sources 1, 3 (0.93, 0.11, 0.88)", loss=0.11 * (i + 1)
            )
        )
    return rows


def subject(**changes) -> SubjectInfo:
    kept = {
        "name": "unmix",
        "source": "sslwang.tasks.unmix",
        "fingerprint": "sha256:6f1c0a7d2be94c0f",
        "task": "unmix",
        "settings": {
            "n": 3,
            "lr": 0.003,
            "size": 64,
            "hardened": True,
            "loss.reduction": "mean",
            "photos": ["cat", "coffee"],
        },
        "batch": "48 rows of 4 images 3x64x64, targets 3",
        "model": "SharedEncoder + PairwiseHead, 312,451 parameters, all trainable",
        "loss": "BCEWithLogitsLossFlat(mean)",
        "optimizer": "Adam, 2 groups, lr 0.003",
    }
    return SubjectInfo(**(kept | changes))


def diagnosis(verdict: str = "pass", **changes) -> Diagnosis:
    files: dict[str, bytes] = {}
    kept = {
        "tool": Tool(name="learner-diagnose", version="0.1.0"),
        "subject": subject(),
        "environment": {
            "device": "cpu, 2 cores",
            "memory": "7.6 GiB, 2.1 GiB used at most",
            "python": "3.11.9",
            "torch": "2.8.0",
            "fastai": "2.8.7",
            "git commit": "a9356db, with uncommitted changes",
        },
        "seed": 0,
        "verdict": verdict,
        "summary": "It can learn: one batch is fitted to 0.96 of what there is to learn, and every gate check passed.",
        "seconds": 41.2,
        "budget": 60.0,
        "checks": [c for c in checks() if c.status == "pass"],
        "samples": samples(files),
    }
    made = Diagnosis(**(kept | changes))
    made.files.update(files)
    return made


def record(layers: list[str], steps: int, at_once: int = 16, every: int = 1) -> Store:
    """What gauges would have recorded of a model with these layers (each with one parameter) over so many steps: noise
    around trends, so that nothing compresses better than the real thing. `every`: of layers, one step in so many."""
    rng = np.random.default_rng(0)
    store, count = Store(block_records=1024), len(layers)
    shapes = rng.dirichlet(np.exp(-(((np.arange(64) - 31.5) / 14) ** 2)) * 20, count) * 4096  # [layers, 64]
    shapes[:, 31] = rng.integers(0, 2, count) * 2000
    kinds = ["Conv2d" if i % 2 else "ReLU" for i in range(count)]
    for first in range(0, steps, at_once):
        step = np.arange(first, min(first + at_once, steps))
        store.append(
            "steps",
            {
                "step": step,
                "loss": np.exp(-3 * step / steps) + 0.05 * rng.standard_normal(len(step)) ** 2,
                "gradient_norm": np.exp(rng.standard_normal(len(step)) * 0.3),
                "lr_0": 1e-3 * (1 - step / steps),
                "outcome": [""] * len(step),
            },
        )
        step = step[step % every == 0]
        rows = len(step) * count
        if not rows:
            continue
        common = {"step": np.repeat(step, count)}

        def noise(size: float, rows: int = rows) -> np.ndarray:
            return (size * np.exp(0.3 * rng.standard_normal(rows, np.float32))).astype(np.float32)

        def histogram(rows: int = rows, steps: int = len(step)) -> dict:
            counts = np.tile(shapes, (steps, 1)) * rng.gamma(8, 1 / 8, (rows, 64)).astype(np.float32)
            return {"histogram": counts.astype(np.uint16), "top": np.full(rows, -3, np.int16)}

        named = {"parameter": [f"{n}.weight" for n in layers] * len(step)}
        store.append(
            "activations",
            common
            | {"layer": layers * len(step), "kind": kinds * len(step), "call": np.zeros(rows, np.uint16)}
            | {"part": np.zeros(rows, np.uint16), "mean": noise(0.1), "std": noise(1), "zeros": noise(0.4)}
            | {"saturated": np.full(rows, np.nan, np.float32), "nonfinite": np.zeros(rows, np.float32)}
            | histogram(),
        )
        store.append(
            "weights", common | named | {"std": noise(0.1), "l2": noise(3), "distance": noise(0.1)} | histogram()
        )
        of_gradients = {"l2": noise(0.01), "zeros": np.zeros(rows, np.float32), "nonfinite": np.zeros(rows, np.float32)}
        store.append("gradients", common | named | of_gradients | histogram())
        store.append("updates", common | named | {"ratio": noise(1e-3)})
    return store


def recording(layers: list[str], steps: int = 60, **changes) -> Diagnosis:
    """A diagnosis that carries a record of these layers, with an alarm."""
    store = record(layers, steps)
    store.append("alarms", {"step": [steps // 2], "id": ["layer-died"], "where": [layers[0]], "message": [layers[-1]]})
    store.append("unrecorded", {"step": [0], "where": [layers[0]], "reason": [f"{layers[-1]} is compiled"]})
    made = diagnosis(gauges="gauges", **changes)
    made.files.update({f"gauges/{name}": data for name, data in store.files().items()})
    return made


def recorded() -> Diagnosis:
    return recording([f"encoder.{i}" for i in range(12)])


def recorded_hostile() -> Diagnosis:
    return recording([*HOSTILE, "x" * 500, "same", "same "], 5)


def passing() -> Diagnosis:
    return diagnosis()


def warning() -> Diagnosis:
    return diagnosis(
        "warn",
        summary="Nothing is proven, but the initial loss is higher than it should be and one check was skipped.",
        checks=checks(),
        causes=[
            CauseResult(
                id="init-bias",
                score=0.4,
                proven=False,
                where=["head.2.bias"],
                summary="The last bias does not start at the mean of the targets.",
                fix=Fix(text="Set it to the log-odds of the targets.", code="head[2].bias.data.fill_(-0.69)"),
            )
        ],
        unchecked=[Unchecked(id="identical-pairs", reason="the task declares no identical pairs")],
    )


def failing() -> Diagnosis:
    ran = checks()
    broken = ran[1].model_copy(
        update={"status": "fail", "summary": "The loss of one batch is not finite from step 9: nothing was learned."}
    )
    refuted = CauseResult(
        id="loss-double-activation",
        score=0.2,
        proven=False,
        refuted=True,
        where=["loss_func"],
        summary="The outputs of the model lie in [0, 1], as if they had gone through a sigmoid.",
        fix=Fix(text="Take the sigmoid out.", code="model = model[:-1]"),
        proof=by_trial(
            change="the last activation undone",
            after=Side(
                summary="The loss is NaN from step 8.",
                learned=0.0,
                loss=diverging(60, 8),
                best_constant=0.637,
                floor=0.0,
            ),
        ),
    )
    suspected = refuted.model_copy(update={"id": "output-collapse", "score": 0.55, "refuted": False, "proof": None})
    return diagnosis(
        "fail",
        summary="It does not learn as it is: the learning rate 30 is too high, proven by learning at 0.003.",
        subject=subject(settings={"n": 3, "lr": 30}, optimizer="Adam, 2 groups, lr 30"),
        causes=[lr_too_high(), suspected, refuted],
        checklist=[
            Answer(
                id="lr-too-high",
                answer="yes",
                reason="the loss diverges; learning rate 0.003: 0.98 learned",
                questions=[6],
            ),
            Answer(id="lr-too-low", answer="no", reason="nothing measured points there", questions=[6]),
            Answer(id="loss-double-activation", answer="no", reason="the change made no difference", questions=[1, 3]),
            Answer(id="batch-too-small", answer="not tested", reason="not measured: larger-batch", questions=[15]),
            Answer(id="train-valid-leak", answer="no", reason="looks like it: 3 alike; is fine", questions=[]),
        ],
        checks=[ran[0], broken, ladder_check(30.0, "fail"), ran[3], ran[4]],
        unchecked=[
            Unchecked(id="identical-pairs", reason="the task declares no identical pairs"),
            Unchecked(id="random-labels", reason="the budget of 60 s was used up"),
        ],
    )


def inspected() -> Diagnosis:
    cause = CauseResult(
        id="params-missing-from-optimizer",
        score=1.0,
        proven=True,
        where=["head.0.weight", "head.0.bias"],
        summary="Two trainable parameters are not held by the optimizer: they can never change.",
        fix=Fix(text="Build the optimizer after the head is replaced.", code="learn.create_opt()"),
        proof=Proof(
            change="the parameters are added to the optimizer",
            kind="inspection",
            before=Side(summary="16 of 18 trainable parameters are held.", numbers={"held": 16, "trainable": 18}),
            after=Side(summary="18 of 18 are held.", numbers={"held": 18, "trainable": 18}),
        ),
    )
    return diagnosis("fail", summary="Two parameters are never trained.", causes=[cause])


def rescaled() -> Diagnosis:
    """A proof whose change alters the scale of the loss."""
    proof = by_trial(
        change="loss.reduction = mean",
        before=Side(
            summary="Summed over 48 rows.",
            learned=0.11,
            loss=[48 * v for v in falling(60, end=0.6)],
            best_constant=48 * 0.637,
            floor=0.0,
        ),
    )
    cause = lr_too_high().model_copy(update={"id": "loss-reduction", "proof": proof})
    return diagnosis("fail", causes=[cause, cause.model_copy(update={"id": "second-cause"})])


def interrupted() -> Diagnosis:
    return diagnosis(
        "warn", partial=True, summary="Interrupted after 2 of 9 checks.", checks=checks()[:2], samples=[], seconds=12.0
    )


def empty() -> Diagnosis:
    return Diagnosis(
        tool=Tool(name="", version=""),
        subject=SubjectInfo(name="", source="", fingerprint=""),
        seed=0,
        verdict="warn",
        summary="",
        seconds=0.0,
    )


def hostile() -> Diagnosis:
    text = " ".join(HOSTILE)
    by_name = dict.fromkeys(HOSTILE, text)
    curve = [math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0]
    before = Side(
        summary=text, learned=math.nan, loss=curve, best_constant=math.inf, floor=-math.inf, numbers=dict(by_name)
    )
    after = before.model_copy(update={"loss": [math.nan] * 3, "floor": None})
    cause = CauseResult(
        id=SCRIPT,
        score=1.0,
        proven=True,
        where=HOSTILE * 5,
        summary=text,
        fix=Fix(text=text, code="\n".join(HOSTILE)),
        proof=Proof(change=text, kind="trial", before=before, after=after),
    )
    others = [cause.model_copy(update={"id": h, "proven": False, "refuted": i % 2 == 0}) for i, h in enumerate(HOSTILE)]
    evidence = [
        *(Evidence(name=h, value=h, unit=h, where=h, expected=h) for h in HOSTILE),
        *(Evidence(name=h, value=[math.nan, math.inf, 1.0, -math.inf] * 2, unit="loss") for h in HOSTILE),
        *(Evidence(name="learned", value=math.inf, where=f"lr={r}") for r in ("1e-3", "1", SCRIPT, "inf", "nan", "0")),
        Evidence(name="mixed", value=[True, "<b>", 2, math.nan]),
        Evidence(name="many", value=HOSTILE),
        Evidence(name="none", value=None),
        Evidence(name="", value=[]),
    ]
    pictures = ("", "1.png", f"{SCRIPT}.png", "no.png", "gone.png")
    made = Diagnosis(
        tool=Tool(name=SCRIPT, version=SCRIPT),
        subject=SubjectInfo(
            name=text, source=text, fingerprint=text, task=text, settings=by_name, batch=text, model=text, loss=text
        ),
        environment=by_name | {"nan": math.nan, "list": HOSTILE},
        seed=-(2**63),
        verdict="fail",
        summary=text,
        partial=True,
        seconds=math.inf,
        budget=math.nan,
        causes=[cause, *others],
        checks=[
            CheckResult(id=h, status=s, summary=text, seconds=math.nan, evidence=evidence)
            for h, s in zip(HOSTILE, ["pass", "warn", "fail", "skip"] * 3)
        ],
        unchecked=[Unchecked(id=h, reason=text) for h in HOSTILE],
        samples=[
            Sample(
                inputs=[SampleInput(title=h, file=f, text=h) for f in pictures], target=h, prediction=h, loss=math.nan
            )
            for h in HOSTILE
        ],
        gauges=SCRIPT,
    )
    made.files.update({"1.png": png(1, 1), f"{SCRIPT}.png": png(2, 1), "no.png": b"<html>not a picture</html>"})
    return made


def one_step() -> Diagnosis:
    proof = by_trial(
        before=Side(summary="One step.", learned=0.0, loss=[0.7], best_constant=0.7, floor=0.7),
        after=Side(summary="No step.", learned=None, loss=[]),
    )
    return diagnosis("fail", causes=[lr_too_high().model_copy(update={"proof": proof})])


def huge() -> Diagnosis:
    """500 layers and 10,000 steps."""
    layers = [f"encoder.blocks.{i}.attention.projection.weight" for i in range(500)]
    evidence = [
        Evidence(name=n, value=1e-3 * i, where=w, expected="> 0")
        for i, w in enumerate(layers)
        for n in ("gradient", "update", "mean", "spread")
    ]
    evidence.append(Evidence(name="loss", value=falling(10_000)))
    side = by_trial().after.model_copy(update={"loss": falling(10_000)})
    files = {f"{i}.png": png(512, 512, i) + b"\0" * 400_000 for i in range(12)}
    made = diagnosis(
        "fail",
        causes=[lr_too_high().model_copy(update={"proof": by_trial(before=side, after=side)})],
        checks=[
            CheckResult(id="gradient-flow", status="pass", summary="2,000 numbers.", seconds=1.0, evidence=evidence)
        ],
        samples=[Sample(inputs=[SampleInput(title="image", file=f)], target="cat") for f in files],
    )
    made.files.clear()
    made.files.update(files)
    return made


ALL: dict[str, Callable[[], Diagnosis]] = {
    f.__name__: f
    for f in (
        *(passing, warning, failing, inspected, rescaled, interrupted, empty, hostile, one_step, huge),
        *(recorded, recorded_hostile),
    )
}
