"""TensorBoard: event files of a finished run, or written while a model trains.

    diagnose view --tensorboard                      # the newest run; needs no other step
    learn.fit(5, cbs=Watch("runs/monday", tensorboard=True))
    tensorboard --logdir runs                        # while it goes on

Scalars are named as the tables of `watch.frame` are: `gradients l2/encoder.0.weight` is the column `l2` of `gradients`.
The tab Custom Scalars draws all layers of one statistic in one chart. Histograms are those of the store: two bins an
octave, exact zeros in a narrow bin of their own.
"""

from __future__ import annotations

import secrets
import shutil
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.alarms import Raised
from diagnose.errors import DiagnoseError
from diagnose.evidence import Value
from diagnose.report import figures
from diagnose.report.recorded import COLUMNS
from diagnose.report.trackers import Bins, Live, Tracker, finished, folder_within, plain_settings, tell
from diagnose.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "tensorboard"  # in a run folder
FLUSHED = 10  # seconds between writes to disk: what a killed run may lose
FRAME = 32  # bytes around a summary: time, step, lengths and check sums
LARGEST = 3.4e38  # of float32, which event files hold
COLOURS = {0: 1, 2: 3, 4: 2, 6: 4}  # PNG's kind of colour: channels


def installed() -> None:
    """Make sure that event files can be written.

    Raises:
        DiagnoseError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise DiagnoseError("TensorBoard is not installed: pip install tensorboard")


class EventFiles(Tracker):
    """Event files in one folder: one, whatever the number of fits, as those of one second are read in any order.

    All numbers of a step are one event: SummaryWriter writes one for each, which costs many times as much, and Comet,
    which patches it when it is imported, would log them a second time.
    """

    pause, sparse, moments = 2.0, 4, 60
    limit = 200_000_000

    def __init__(self, folder: Path):
        installed()
        self.folder = folder
        self._file: Any = None
        self._laid_out = False

    def _add(self, summary: Any, step: int | None = None) -> None:
        from torch.utils.tensorboard import FileWriter

        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = FileWriter(str(self.folder), max_queue=1_000, flush_secs=FLUSHED)
        self.written += summary.ByteSize() + FRAME
        self._file.add_summary(summary, step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not self._laid_out:
            self._laid_out = True
            self._lay_out()
        one = Summary.Value
        self._add(Summary(value=[one(tag=n, simple_value=_narrow(v)) for n, v in values.items()]), step)

    def _lay_out(self) -> None:
        "All layers of one statistic in one chart."
        from torch.utils.tensorboard.summary import custom_scalars

        charts = {t: {c: ["Multiline", [f"^{t} {c}/"]] for c in columns} for t, columns in COLUMNS.items()}
        self._add(custom_scalars(charts))

    def histograms(self, step: int, values: Mapping[str, Bins]) -> None:
        from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

        made = []
        for name, (edges, counts) in values.items():
            edges = edges.clip(-LARGEST, LARGEST)
            middle = (edges[:-1] + edges[1:]) / 2
            histo = HistogramProto(
                min=edges[0],
                max=edges[-1],
                num=counts.sum(),
                sum=(middle * counts).sum(),
                sum_squares=(middle**2 * counts).sum(),
                bucket_limit=edges[1:].tolist(),
                bucket=counts.tolist(),
            )
            made.append(Summary.Value(tag=name, histo=histo))
        if made:
            self._add(Summary(value=made), step)

    def figure(self, name: str, drawn: Figure, step: int | None = None) -> None:
        self._picture(f"figures/{name}", figures.png(drawn), step)

    def picture(self, name: str, png: bytes) -> None:
        self._picture(name, png, 0)

    def _picture(self, name: str, png: bytes, step: int | None) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height, _, colour = struct.unpack(">IIBB", png[16:26])
        image = Summary.Image(height=height, width=width, colorspace=COLOURS.get(colour, 3), encoded_image_string=png)
        self._add(Summary(value=[Summary.Value(tag=name, image=image)]), step or 0)

    def text(self, name: str, said: str, step: int | None = None) -> None:
        from torch.utils.tensorboard.summary import text

        self._add(text(name, said), step or 0)

    def alarm(self, raised: Raised) -> None:
        super().alarm(raised)
        self._file.flush()  # what comes next may be the end of the process

    def settings(self, values: Mapping[str, Value], results: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(plain_settings(values), dict.fromkeys(results or ("loss/loss",))):
            self._add(summary)
        if results:
            self.scalars(0, results)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


def _narrow(value: float) -> float:
    return max(min(value, LARGEST), -LARGEST) if abs(value) != float("inf") else value


class TensorBoard(Live):
    """Event files while a model trains.

    Args:
        where: the folder for them; True for `tensorboard` in the folder of the Watch, or in runs/<time> if it has none.
    """

    def __init__(self, where: bool | Path | str, folder: Path | None = None):
        super().__init__()
        installed()
        self.folder = Path(where) if where is not True else folder_within(folder, FOLDER)

    def open(self) -> EventFiles:
        return EventFiles(self.folder)


def write(run: Path) -> Path:
    """Write the event files of a finished run into its folder, whole or not at all; those that are there stay.

    Args:
        run: a folder of `diagnose run`, or of `Watch(folder)`.

    Returns:
        the folder to give to TensorBoard.

    Raises:
        DiagnoseError: the folder holds no run, or cannot be written, or TensorBoard is not installed.
    """
    run = run.resolve()
    into = run / FOLDER
    for there in (into, run):
        if _has_events(there):
            return there
    installed()
    diagnosis, found = finished(run)
    sibling = run / f".{secrets.token_hex(8)}.partial"
    try:
        files = EventFiles(sibling / run.name)  # TensorBoard names a run as its folder
        try:
            tell(files, diagnosis, found)
        finally:
            files.close()
        if into.is_dir():
            into.rmdir()
        sibling.rename(into)
    except OSError as e:
        raise DiagnoseError(f"cannot write event files into {into}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(sibling, ignore_errors=True)
    return into


def watched(folder: Path) -> bool:
    """Whether a folder is that of a Watch, or holds event files that one wrote."""
    try:
        Store.read(folder)
    except DiagnoseError:
        return _has_events(folder) or _has_events(folder / FOLDER)
    return True


def _has_events(folder: Path) -> bool:
    events = "events.out.tfevents.*"
    return folder.is_dir() and (any(folder.glob(events)) or any(folder.glob(f"*/{events}")))


def serve(folder: Path, port: int = 0) -> str:
    """Start TensorBoard on a folder, on the loopback address, in threads of this process; it ends with it.

    Args:
        port: 0 for a free one.

    Returns:
        its address.

    Raises:
        DiagnoseError: it could not start, e.g. because the port is taken.
    """
    installed()
    from tensorboard import program

    server = program.TensorBoard()
    options = ["--logdir", str(folder), "--host", "127.0.0.1", "--samples_per_plugin", "scalars=10000,images=100"]
    server.configure(argv=[None, *options, "--port", str(port)])
    try:
        return server.launch()
    except program.TensorBoardServerException as e:
        raise DiagnoseError(f"TensorBoard did not start: {e}") from e
