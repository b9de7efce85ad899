from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import report_samples

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    return report_samples


@pytest.fixture(scope="session")
def chromium():
    """One headless browser for all tests. Only a machine without Chromium skips."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    quiet = [
        "--disable-gpu",
        "--no-sandbox",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def real_runs(tmp_path_factory) -> Path:
    """A folder with the runs of a Learner that learns and of the same at a rate that is far too high, really examined:
    the second is compared with the first."""
    from learners import digits

    from diagnose import report
    from diagnose.examination import examine
    from diagnose.subject import from_learner

    few = ["gradient-flow", "label-histogram", "overfit-one-batch", "learning-rate-ladder", "real-against-random"]
    folder = tmp_path_factory.mktemp("real") / "digits"
    for name, changes in (("1-real-passing", {}), ("2-real-failing", {"lr": 30.0})):
        diagnosis = examine(from_learner(digits(**changes), "digits"), budget=None, only=few)
        report.write(diagnosis, folder / name)
    return folder


@pytest.fixture(scope="session")
def large_run(samples, tmp_path_factory) -> Path:
    """The run folder of 500 layers over 10,000 recorded steps, as much as a run of its own keeps of them."""
    from diagnose import report

    kinds = ("attention.projection", "attention.query", "mlp.0", "mlp.2")
    store = samples.record([f"encoder.blocks.{i // 4}.{kinds[i % 4]}" for i in range(500)], 10_000, every=20)
    made = samples.huge().model_copy(update={"gauges": "gauges"})
    made.files.update(samples.huge().files | {f"gauges/{name}": data for name, data in store.files().items()})
    folder = tmp_path_factory.mktemp("large") / "run"
    report.write(made, folder)
    return folder


@pytest.fixture
def opened(chromium, samples, tmp_path, request):
    """Opens the report of a named sample or of a real run, and fails if a page logged, raised or requested anything."""
    from diagnose import report

    pages = []

    def open_page(name: str, width: int = 1440, scheme: str = "light", **context):
        folder = tmp_path / name
        if "real" in name:
            folder = request.getfixturevalue("real_runs") / name
        elif name == "large":
            folder = request.getfixturevalue("large_run")
        elif not folder.exists():
            report.write(samples.ALL[name](), folder)
        page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context).new_page()
        page.trouble, page.requested = [], []
        page.on("console", lambda message: page.trouble.append(message.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("dialog", lambda dialog: (page.trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto((folder / "report.html").as_uri())
        if context.get("java_script_enabled", True) and page.locator("#record").count():
            page.wait_for_selector("html[data-figures=live]", state="attached")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.trouble == []
        assert [u for u in page.requested if not u.startswith(("file:", "data:"))] == []
        assert len([u for u in page.requested if u.startswith("file:")]) == 1
        page.context.close()
