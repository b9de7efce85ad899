"""`learn.diagnose()`: an examination of a live Learner, shown where it was asked for.

found = learn.diagnose()          # the report, inline in a notebook, a table in a terminal
found.plot("proof")               # the loss as it is, and with the change
diagnose.load("unmix").plot("layers")  # of a run folder
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastai.learner import Learner
from pydantic import PrivateAttr

from diagnose.diagnosis import CheckResult, Diagnosis
from diagnose.errors import DiagnoseError
from diagnose.examination import Progress, examine
from diagnose.report import figures, html, runs, terminal
from diagnose.report.recorded import recorded_of
from diagnose.subject import from_learner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = {
    "proof": "the proof of a cause",
    "ladder": "the share learned at each learning rate",
    "loss": "the loss of the recorded training",
    "gradients": "the norm of the whole gradient",
    "updates": "updates against their weights",
    "layers": "statistics of every layer, first against last",
    "histograms": "histograms over time; table= activations, gradients or weights, places= layers",
}
"""What `ShownDiagnosis.plot` draws."""

LADDER = "learning-rate-ladder"


class ShownDiagnosis(Diagnosis):
    """A diagnosis that a notebook shows as its report, and that draws its figures."""

    _run: Path | None = PrivateAttr(default=None)  # the folder it was loaded from
    _shown_in: tuple[int, int] | None = PrivateAttr(default=None)  # the shell and the cell that showed it already

    @classmethod
    def load(cls, run: Path) -> ShownDiagnosis:
        """The diagnosis of a run folder, with the pictures it names."""
        found = super().load(run)
        found._run = run
        return found

    def plot(self, what: str = "proof", id: str | None = None, **options: Any) -> Figure:
        """One figure, of matplotlib.

        Args:
            what: one of `PLOTS`.
            id: of the cause for "proof", else the first proven one; of the check for "ladder".
            options: `table` and `places` of "histograms".

        Raises:
            DiagnoseError: no such figure, or nothing was measured that it could show.
        """
        if what not in PLOTS:
            raise DiagnoseError(f"no figure {what}; there are {', '.join(PLOTS)}")
        if options and what != "histograms":
            raise DiagnoseError(f"{', '.join(options)}: only histograms have options")
        if what == "proof":
            cause = self._cause(id)
            figure = figures.proof(cause)
            missing = f"the proof of {cause.id} has no trial: it was settled by inspection"
        elif what == "ladder":
            check = self.check(id or LADDER)
            figure = figures.ladder(check) if check else None
            missing = f"{id or LADDER} measured no two learning rates"
        else:
            figure = self._recorded(what, options)
            missing = "no training was recorded that shows it"
        if figure is None:
            raise DiagnoseError(f"nothing to draw for {what}: {missing}")
        # without pyplot in the cell a notebook knows no picture of a figure
        figure._repr_png_ = partial(figures.png, figure)
        return figure

    def _cause(self, id: str | None):
        if id is None and self.cause is None:
            raise DiagnoseError("nothing to draw for proof: no cause is proven; name one that was tried by id=")
        found = self.cause if id is None else next((c for c in self.causes if c.id == id), None)
        if found is None:
            raise DiagnoseError(f"no cause {id}; there are {', '.join(c.id for c in self.causes) or 'none'}")
        if found.proof is None:
            raise DiagnoseError(f"nothing to draw for proof: {found.id} was not tried")
        return found

    def _recorded(self, what: str, options: dict[str, Any]) -> Figure | None:
        found = recorded_of(self, self._run)
        if found is None:
            return None
        if what == "histograms":
            try:
                return figures.histograms(found, **options)
            except KeyError as e:
                raise DiagnoseError(f"nothing of the name {e} was recorded") from e
            except TypeError as e:
                raise DiagnoseError(f"histograms have table= and places=: {e}") from e
        draw = {
            "loss": figures.loss,
            "gradients": figures.gradient_norm,
            "updates": figures.update_ratios,
            "layers": figures.layers,
        }
        return draw[what](found)

    def __repr__(self) -> str:
        """One line: the report has the rest, and the whole text of it would bury what stands above."""
        return f"<{self.verdict}: {self.summary}>"

    def _repr_html_(self) -> str | None:
        """The report in a frame of its own, which neither shares styles with the notebook nor reaches into it.

        None in the cell that showed it already, whose last expression it may be.
        """
        if self._shown_in is not None and self._shown_in == _cell():
            return None
        page = html.render(self, self._run).replace("&", "&amp;").replace('"', "&quot;")
        return (
            '<iframe title="diagnosis" sandbox="allow-scripts" allow="clipboard-write" '
            f'style="width:100%;height:80vh;border:0" srcdoc="{page}"></iframe>'
        )


def load(run: str | Path | None = None, out: str | Path = "reports") -> ShownDiagnosis:
    """The diagnosis of an earlier run, to be shown or drawn.

    Args:
        run: its path, its name as `diagnose list runs` gives it, or the beginning of it; the newest if None.
        out: where run folders are.

    Raises:
        DiagnoseError: there is none, or its report cannot be read.
    """
    return runs.load(runs.find(Path(out), None if run is None else str(run)), ShownDiagnosis)


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
    display = _Display() if show else None
    progress = Progress(doing=display.doing, done=display.done) if display else Progress()
    found = examine(subject, seed, budget, progress=progress, **options)
    diagnosis = ShownDiagnosis.model_construct(**{k: getattr(found, k) for k in type(found).model_fields})
    diagnosis.files.update(found.files)
    if display:
        display.show(diagnosis)
    return diagnosis


class _Display:
    """Where what is done is told while it lasts, and the report is shown in the end."""

    def __init__(self):
        self.handle = None
        if _notebook() is not None:
            from IPython.display import display

            self.handle = display({"text/plain": "diagnose: starting"}, raw=True, display_id=True)

    def doing(self, text: str) -> None:
        if self.handle is not None:
            self.handle.update({"text/plain": f"diagnose: {text}"}, raw=True)

    def done(self, result: CheckResult) -> None:
        if self.handle is None and sys.stdout.isatty():
            from rich.console import Console

            console = Console()
            console.print(terminal.line(result, console))

    def show(self, diagnosis: ShownDiagnosis) -> None:
        if self.handle is not None:
            self.handle.update(diagnosis)  # takes the place of what was being done
            diagnosis._shown_in = _cell()
            return
        from rich.console import Console

        terminal.render(diagnosis, Console())


def _notebook() -> Any:
    """The shell of a notebook, where there is one; a terminal's shell shows no HTML."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if shell is not None and getattr(shell, "kernel", None) is not None else None


def _cell() -> tuple[int, int] | None:
    """The cell that runs now."""
    shell = _notebook()
    return None if shell is None else (id(shell), shell.execution_count)
