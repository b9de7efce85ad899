"""The report as a person meets it, in headless Chromium."""

from __future__ import annotations

import io

import pytest
from PIL import Image

pytestmark = pytest.mark.browser

NAMES = [
    "passing",
    "warning",
    "failing",
    "inspected",
    "rescaled",
    "interrupted",
    "empty",
    "hostile",
    "one_step",
    "huge",
]
OPEN_ALL = "document.querySelectorAll('details').forEach(d => { d.open = true })"
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
    for (let p = e.parentElement; p; p = p.parentElement) {
        if (getComputedStyle(p).overflowX !== 'visible' || p.tagName === 'svg') return false;
    }
    const box = e.getBoundingClientRect();
    return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_window(opened, name, width):
    page = opened(name, width)
    for _ in ("closed", "open"):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == []
        inner = page.locator("main").evaluate("m => m.clientWidth - 2 * parseFloat(getComputedStyle(m).paddingLeft)")
        assert all(s.bounding_box()["width"] <= inner + 1 for s in page.locator("section > *").all())
        page.evaluate(OPEN_ALL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
@pytest.mark.parametrize("name", ["passing", "warning", "failing", "inspected", "interrupted", "empty"])
def test_axe_finds_no_violation(opened, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, width, scheme)
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1440])
def test_the_screenshot_has_something_to_see(opened, width, scheme):
    page = opened("failing", width, scheme)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    assert image.width == width
    assert image.height > 2000
    assert len(image.getcolors(image.width * image.height)) > 500
    paper = image.getpixel((3, image.height // 2))
    assert (sum(paper) > 600) == (scheme == "light")


def test_verdict_cause_fix_and_curves_are_visible_without_javascript(opened):
    page = opened("failing", java_script_enabled=False)
    assert page.locator("h1").inner_text().split() == ["FAIL", "unmix"]
    assert page.get_by_role("heading", name="lr-too-high").is_visible()
    assert page.get_by_text("learn.fit_one_cycle(10, lr_max=3e-3)").is_visible()
    assert page.locator("#cause .chart").count() == 2
    assert page.locator("#cause .chart").first.is_visible()
    assert page.get_by_text("not finite from step 9", exact=True).first.is_visible()
    assert page.locator("button:visible").count() == 0
    row = page.get_by_role("row").filter(has_text="overfit-one-batch").first
    assert "not finite from step 9" in row.inner_text()


def test_both_curves_have_one_axis(opened):
    page = opened("failing")
    before, after = (page.locator(f"#cause .is-{side} .tick").all_inner_texts() for side in ("before", "after"))
    assert before == after
    heights = [page.locator(f"#cause .is-{side} .chart .constant").get_attribute("y1") for side in ("before", "after")]
    assert heights[0] == heights[1]


def test_curves_stand_side_by_side_or_below_each_other(opened):
    for width, beside in ((1440, True), (380, False)):
        boxes = [f.bounding_box() for f in opened("failing", width).locator("#cause .half").all()]
        assert (boxes[0]["y"] == boxes[1]["y"]) == beside


def test_copy_puts_the_fix_on_the_clipboard(opened, samples):
    page = opened("failing", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == samples.failing().cause.fix.code


def test_all_evidence_opens_and_closes(opened):
    page = opened("failing")
    button = page.get_by_role("button", name="Show or hide all evidence")
    assert page.locator("details.evidence[open]").count() == 0
    button.click()
    assert page.locator("details.evidence:not([open])").count() == 0
    button.click()
    assert page.locator("details.evidence[open]").count() == 0


def test_keyboard_reaches_the_report_and_the_evidence(opened):
    page = opened("failing")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.locator("details.evidence summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.evidence").first.get_attribute("open") is not None


def test_hostile_names_stay_text(opened, samples):
    page = opened("hostile")
    page.evaluate(OPEN_ALL)
    assert page.locator("script").count() == 1
    assert page.locator("img:not([src^='data:image/png'])").count() == 0
    assert samples.SCRIPT in page.locator("h1").inner_text()
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => a.name.startsWith('on')))"
        )
        is False
    )


def test_pictures_are_decoded(opened):
    page = opened("passing")
    sizes = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert sizes == [64] * 24


@pytest.mark.parametrize("width", [380, 1440])
def test_bars_are_as_long_as_what_they_show(opened, samples, width):
    bars = opened("passing", width).locator(".times .bar")
    full = [b.locator(".track").bounding_box()["width"] for b in bars.all()]
    fill = [b.locator(".fill").bounding_box()["width"] for b in bars.all()]
    times = sorted((c.seconds for c in samples.passing().checks), reverse=True)
    assert [f / w for f, w in zip(fill, full)] == pytest.approx([t / times[0] for t in times], abs=0.01)


def test_a_large_report_opens_in_three_seconds(opened):
    timing = opened("huge").evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert timing < 3000


def test_print_shows_the_evidence_on_white(opened):
    page = opened("failing", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.pdf().startswith(b"%PDF")
