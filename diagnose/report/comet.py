"""Comet: a finished run as an experiment, or one that grows while a model trains.

    diagnose run --task unmix --comet
    learn.fit(5, cbs=Watch("runs/monday", comet=True))

With an API key (COMET_API_KEY or ~/.comet.config) the experiment is online; without one, or if the server does not
answer, it is an archive in the folder of the run, for `comet upload`. Project and workspace are Comet's own settings
(COMET_PROJECT_NAME, COMET_WORKSPACE).

comet_ml is imported only when it is used. Importing it patches torch, fastai, scikit-learn and others so that they log
by themselves, and draws from Python's random numbers; so its automatic logging is off and its random numbers are its
own: a training with it gives the same bits as one without. Whatever goes wrong with it is one warning.
"""

from __future__ import annotations

import io
import logging
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.alarms import Raised
from diagnose.errors import DiagnoseError
from diagnose.evidence import Value
from diagnose.isolate import random_streams
from diagnose.report import HTML, JSON, words
from diagnose.report.trackers import Bins, Live, Tracker, finished, folder_within, plain_settings, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("diagnose")

FOLDER = "comet"  # in a run folder
METRIC, HISTOGRAM, ASSET = 160, 4_000, 60_000  # bytes that an entry takes in an archive, about
QUIET = {
    **dict.fromkeys(("log_code", "log_graph", "log_env_details", "log_git_metadata", "log_git_patch"), False),
    **dict.fromkeys(("auto_param_logging", "auto_metric_logging", "auto_output_logging", "auto_log_co2"), False),
    **dict.fromkeys(("parse_args", "auto_histogram_tensorboard_logging"), False),
    "display_summary_level": 0,
}
AT_IMPORT = {"COMET_LOGGING_CONSOLE": "ERROR", "COMET_ERROR_TRACKING_ENABLE": "0"}
AT_START = {f"COMET_GET_OR_ADD_EXPERIMENT_RETRY_{what}": "1" for what in ("CONNECT", "READ", "STATUS", "TOTAL")}


def installed() -> None:
    """Make sure that Comet can be used, without importing it.

    Raises:
        DiagnoseError: it is not installed.
    """
    if find_spec("comet_ml") is None:
        raise DiagnoseError("Comet is not installed: pip install 'learner-diagnose[comet]' (or pip install comet_ml)")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    "Settings that hold for a while, where the user has none."
    added = {k: v for k, v in values.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _comet() -> Any:
    "comet_ml, with random numbers of its own; what it says is said once, unless the user imported it."
    first = "comet_ml" not in sys.modules
    with random_streams(), _environment(AT_IMPORT):
        import comet_ml

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "comet_ml" and vars(module).get("random") is random:
            module.random = random.Random()  # its threads draw when a request is tried again
    if first:
        said = logging.getLogger("comet_ml")
        for handler in [h for h in said.handlers if type(h) is logging.StreamHandler]:
            said.removeHandler(handler)
        said.addHandler(_Once())
    return comet_ml


class _Once(logging.Handler):
    "The first error of Comet becomes a warning of ours; what follows is told to debuggers."

    def __init__(self):
        super().__init__(logging.ERROR)
        self.told = False

    def emit(self, record: logging.LogRecord) -> None:
        log.log(logging.DEBUG if self.told else logging.WARNING, "Comet: %s", record.getMessage().strip())
        self.told = True


def started(folder: Path, name: str = "") -> Any:
    """A new experiment: online if there is a key and the server answers, else an archive in `folder` when it ends.

    Raises:
        DiagnoseError: Comet is not installed.
    """
    installed()
    comet_ml = _comet()
    experiment = None
    with random_streams():
        if comet_ml.get_config("comet.api_key"):
            try:
                with _environment(AT_START):
                    experiment = comet_ml.Experiment(**QUIET)
                reason = "the server did not take it"
            except Exception as e:
                reason = f"{type(e).__name__}: {e}"
            if experiment is None or not experiment.alive:
                experiment = None
                log.warning("Comet is not reached (%s): the experiment becomes an archive in %s", reason, folder)
        if experiment is None:
            folder.mkdir(parents=True, exist_ok=True)
            experiment = comet_ml.OfflineExperiment(offline_directory=str(folder), **QUIET)
        if name:
            experiment.set_name(name)
        experiment.add_tag("diagnose")
    return experiment


class Experiment(Tracker):
    """An experiment of Comet.

    Args:
        experiment: as `started` gives it, or the user's.
        ours: whether to end it when closed.
    """

    pause, sparse, moments = 30.0, 10, 6  # its server thins what comes faster, and a histogram is a file
    limit = 100_000_000

    def __init__(self, experiment: Any, ours: bool = True):
        self.experiment, self.ours = experiment, ours

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        told = {n: v for n, v in values.items() if math.isfinite(v)}
        self.experiment.log_metrics(told, step=step)
        self.written += METRIC * len(told)

    def histograms(self, step: int, values: Mapping[str, Bins]) -> None:
        from comet_ml.data_structure import Histogram

        for name, (edges, counts) in values.items():
            shape = Histogram()
            middles = (edges[:-1] + edges[1:]) / 2
            shape.add(middles.clip(-9e19, 9e19), counts=counts.astype(int))  # its bins end at 1e20
            self.experiment.log_histogram_3d(shape, name=name, step=step)
        self.written += HISTOGRAM * len(values)

    def figure(self, name: str, drawn: Figure, step: int | None = None) -> None:
        self.experiment.log_figure(name, drawn, step=step, format="png")
        self.written += ASSET

    def picture(self, name: str, png: bytes) -> None:
        from PIL import Image

        self.experiment.log_image(Image.open(io.BytesIO(png)), name=name)
        self.written += len(png)

    def text(self, name: str, said: str, step: int | None = None) -> None:
        self.experiment.log_text(said, step=step, metadata={"what": name})

    def alarm(self, raised: Raised) -> None:
        where = f" ({words.safe(raised.where)})" if raised.where else ""
        said = f"{raised.id}{where} at step {raised.step:,}: {words.safe(raised.message)}"
        self.experiment.log_text(said, step=raised.step, metadata={"what": "alarm"})
        self.experiment.log_other(f"alarm {raised.id}{where}", said)

    def settings(self, values: Mapping[str, Value], results: Mapping[str, float]) -> None:
        self.experiment.log_parameters(plain_settings(values), nested_support=False)
        if results:
            self.scalars(0, results)

    def flush(self) -> None:
        """Its own thread sends what was told; nobody waits for it."""

    def close(self) -> None:
        if self.ours:
            self.ours = False
            with random_streams():
                self.experiment.end()


class Comet(Live):
    """An experiment while a model trains.

    Args:
        where: True for an experiment of its own, which `Watch.close` or the end of the process ends; or the user's,
            which is left open.
        folder: of the Watch; an archive goes into its sub-folder `comet`, without one into runs/<time>/comet.

    Raises:
        DiagnoseError: Comet is not installed, or `where` is no experiment.
    """

    def __init__(self, where: Any, folder: Path | None = None):
        super().__init__()
        if where is True:
            installed()
        elif not callable(getattr(where, "log_metrics", None)):
            raise DiagnoseError(f"comet={where!r}: give True, or an experiment of comet_ml")
        self.where = where
        self.folder = folder_within(folder, FOLDER)

    def open(self) -> Experiment:
        if self.where is not True:
            return Experiment(self.where, ours=False)
        return Experiment(started(self.folder))


def write(run: Path) -> str | None:
    """Log a finished run: what TensorBoard shows, the report as page and asset, the verdict among the "others".

    Args:
        run: a folder of `diagnose run`, or of `Watch(folder)`.

    Returns:
        the address of the experiment, or the path of its archive; None if something went wrong, which is one warning.

    Raises:
        DiagnoseError: Comet is not installed, or the folder holds no run.
    """
    installed()
    diagnosis, found = finished(run)
    folder = run / FOLDER
    try:
        experiment = started(folder, diagnosis.subject.name if diagnosis else run.name)
        tracker = Experiment(experiment)
        try:
            tell(tracker, diagnosis, found)
            if diagnosis is not None:
                others = {"verdict": diagnosis.verdict, "summary": diagnosis.summary}
                experiment.log_others({**others, "cause": diagnosis.cause.id if diagnosis.cause else "none proven"})
                experiment.add_tag(diagnosis.verdict)
            for name in (JSON, HTML):
                if (run / name).is_file():
                    experiment.log_asset(str(run / name), file_name=name)
            if (run / HTML).is_file():
                experiment.log_html((run / HTML).read_text(encoding="utf-8"))
        finally:
            tracker.close()
    except Exception as e:  # whatever it is, the examination stands
        log.warning("Comet did not take the run: %s: %s", type(e).__name__, e)
        return None
    archive = next(iter(sorted(folder.glob(f"{experiment.get_key()}*.zip"))), None)
    return str(archive) if archive else experiment.url
