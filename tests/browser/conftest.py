from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

SAMPLES = Path(__file__).parents[1] / "diagnose" / "report" / "samples.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_samples", SAMPLES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


@pytest.fixture
def opened(chromium, samples, tmp_path):
    """Opens the report of a named sample, and fails if a page logged, raised or requested anything."""
    from diagnose import report

    pages = []

    def open_page(name: str, width: int = 1440, scheme: str = "light", **context):
        folder = tmp_path / name
        if not folder.exists():
            report.write(samples.ALL[name](), folder)
        page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context).new_page()
        page.trouble, page.requested = [], []
        page.on("console", lambda message: page.trouble.append(message.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("dialog", lambda dialog: (page.trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto((folder / "report.html").as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.trouble == []
        assert [u for u in page.requested if not u.startswith(("file:", "data:"))] == []
        assert len([u for u in page.requested if u.startswith("file:")]) == 1
        page.context.close()
