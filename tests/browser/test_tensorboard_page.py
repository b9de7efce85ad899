"""TensorBoard as a person meets it: `diagnose view --tensorboard` starts it, headless Chromium looks at its pages."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import learners
import pytest
import watched
from PIL import Image

from diagnose import report

pytestmark = pytest.mark.browser

PATIENCE = 60_000  # ms: the first page is 6 MB of script


@pytest.fixture(scope="module")
def run(samples, tmp_path_factory):
    """A failing run whose record is that of a small training."""
    folder = tmp_path_factory.mktemp("reports") / "unmix" / "2026-11-24T09-30-00"
    diagnosis = samples.ALL["failing"]().model_copy(update={"gauges": "gauges"})
    diagnosis.files.update(samples.ALL["failing"]().files)
    store = watched.fit(learners.digits(), 40).store
    diagnosis.files.update({f"gauges/{name}": data for name, data in store.files().items()})
    report.write(diagnosis, folder)
    return folder


@pytest.fixture(scope="module")
def address(run):
    """The address that the command prints; it is ended by Ctrl-C, or killed."""
    command = [sys.executable, "-m", "diagnose", "view", str(run), "--tensorboard", "--serve"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as server:
        try:
            found = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\n", server.stdout.readline())
            assert found
            yield found[1]
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


@pytest.fixture
def page(chromium, address):
    """A page that must not raise, nor ask anybody but the server."""
    made = chromium.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    made.set_default_timeout(PATIENCE)
    trouble, requested = [], []
    made.on("pageerror", lambda error: trouble.append(str(error)))
    made.on("request", lambda request: requested.append(request.url))
    yield made
    assert trouble == []
    assert [u for u in requested if not u.startswith((address, "data:", "blob:"))] == []
    made.context.close()


def look(page, address: str, tab: str) -> None:
    page.goto(f"{address}#{tab}")


def seen(page, name: str) -> Image.Image:
    """A screenshot, kept in the folder that the environment names."""
    shot = page.screenshot()
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder, f"tensorboard-{name}.png").write_bytes(shot)
    return Image.open(io.BytesIO(shot)).convert("RGB")


def colourful(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Distinct strong colours within a part of the page."""
    part = image.crop(box)
    return sum(max(c) - min(c) > 60 for _, c in part.getcolors(part.width * part.height))


CONTENT = (360, 120, 1180, 1000)  # right of and below what TensorBoard frames every page with


def test_the_verdict_comes_first_with_its_code(page, address, samples):
    look(page, address, "text")
    page.get_by_text("FAIL: unmix").first.wait_for()
    seen(page, "text")
    assert page.get_by_text(samples.lr_too_high().fix.code.splitlines()[0]).first.is_visible()
    assert page.get_by_text("overfit-one-batch").count()


def test_scalars_are_drawn_under_the_name_of_the_run(page, address):
    look(page, f"{address}?tagFilter=gradient_norm%24", "timeseries")
    page.get_by_text("gradient/gradient_norm").first.wait_for()
    assert page.get_by_text("2026-11-24T09-30-00").first.is_visible()
    page.locator("line-chart").first.wait_for()
    seen(page, "timeseries")


def test_histograms_of_layers_are_drawn(page, address):
    look(page, address, "histograms")
    page.get_by_text("activations/0.0 Conv2d").first.wait_for()
    page.locator("svg path.baseline, svg .histogram, svg path").first.wait_for(state="attached")
    page.wait_for_timeout(2000)
    assert colourful(seen(page, "histograms"), CONTENT) > 50


def test_figures_and_the_batch_are_pictures(page, address):
    look(page, address, "images")
    page.get_by_text("batch/row 0 mixture").first.wait_for()
    page.wait_for_function(LOADED)
    assert colourful(seen(page, "images"), CONTENT) > 500


LOADED = """() => {
    const images = root => [...root.querySelectorAll('*')].flatMap(
        e => [...(e.tagName === 'IMG' ? [e] : []), ...(e.shadowRoot ? images(e.shadowRoot) : [])]);
    return images(document).filter(i => i.naturalWidth >= 64).length >= 2;
}"""


def test_all_layers_of_a_statistic_are_in_one_chart(page, address):
    look(page, address, "custom_scalars")
    page.get_by_text("Matches (11)").first.wait_for()
    page.wait_for_timeout(3000)
    assert colourful(seen(page, "custom-scalars"), (360, 150, 1100, 340)) > 10


def test_settings_and_results_are_a_table(page, address):
    look(page, address, "hparams")
    page.get_by_text("result/causes proven").first.wait_for()
    page.get_by_text("30.000").first.wait_for()
    seen(page, "hparams")
