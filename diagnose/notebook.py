"""`learn.diagnose()`: an examination of a live Learner, shown where it was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from fastai.learner import Learner

from diagnose.diagnosis import CheckResult, Diagnosis
from diagnose.examination import Progress, examine
from diagnose.report import html, terminal
from diagnose.subject import from_learner


class ShownDiagnosis(Diagnosis):
    """A diagnosis that a notebook shows as its report."""

    def _repr_html_(self) -> str:
        """The whole report in a frame of its own, so that neither page's styles reach the other."""
        import html as escaping

        page = escaping.escape(html.render(self), quote=True)
        return f'<iframe title="diagnosis" srcdoc="{page}" style="width:100%;height:80vh;border:0"></iframe>'


def examine_learner(
    learn: Learner,
    name: str = "learner",
    seed: int = 0,
    budget: float | None = 60.0,
    show: bool = True,
    weights: str | Path | None = None,
    **options,
) -> Diagnosis:
    """Examine a live Learner, which is afterwards bit for bit what it was.

    Args:
        name: what the report calls it.
        seed: same seed, same report.
        budget: seconds allowed, None for no bound.
        show: display the report inline in a notebook, or as a table in a terminal.
        weights: a checkpoint that it is meant to have loaded; its tensors are looked for in the model.
        options: `only`, `skip`, `everything` as in `diagnose.examine`.

    Raises:
        SubjectError: the Learner's own code raised.
        DiagnoseError: it cannot be examined, e.g. no trainable parameter, or `weights` holds no state dict.
    """
    subject = from_learner(learn, name)
    if weights:
        subject.should_hold(weights)
    progress = Progress(done=_say) if show and sys.stdout.isatty() else Progress()
    found = examine(subject, seed, budget, progress=progress, **options)
    diagnosis = ShownDiagnosis.model_construct(**{k: getattr(found, k) for k in type(found).model_fields})
    diagnosis.files.update(found.files)
    if show:
        _show(diagnosis)
    return diagnosis


def _say(result: CheckResult) -> None:
    print(f"{result.status:5} {result.id}: {result.summary}")


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _show(diagnosis: ShownDiagnosis) -> None:
    if _in_notebook():
        from IPython.display import display

        display(diagnosis)
        return
    from rich.console import Console

    terminal.render(diagnosis, Console())
