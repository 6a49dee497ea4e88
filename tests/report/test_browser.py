"""The page in a browser: no errors, the search, links, a phone, a keyboard, light and dark, paper.

axe-core checks what can be checked of accessibility by a program; it comes with a Python package.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.report.runs import HOSTILE

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver on PATH"),
]
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for option in (*OPTIONS, profile):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield started
    started.quit()


@pytest.fixture
def opened(driver: Any, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Opens a page from disk, on a screen of the usual width; the console must stay empty."""

    def open_page(text: str) -> Any:
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        _screen(driver, 1100)
        driver.get(file.as_uri())
        return driver

    yield open_page
    assert driver.get_log("browser") == []


@pytest.fixture
def page(opened: Callable[[str], Any], whole_page: str) -> Any:
    return opened(whole_page)


@pytest.fixture
def traced(opened: Callable[[str], Any], traced_page: str) -> Any:
    return opened(traced_page)


def _screen(driver: Any, width: int, **media: str) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": f"prefers-{k}", "value": v} for k, v in media.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _cards(page: Any) -> list[str]:
    """The ids of the visible cards."""
    return list(
        page.execute_script(
            "return [...document.querySelectorAll('article')]"
            ".filter(card => card.checkVisibility())"
            ".map(card => card.querySelector('.id').textContent)"
        )
    )


def _choose(page: Any, element: str, label: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find_element("id", element)).select_by_visible_text(label)


def test_hostile_text_is_seen_and_not_run(page: Any) -> None:
    assert page.title == "made/20260101-000000"
    assert HOSTILE in page.find_element("id", "samples").text
    assert page.execute_script("return document.scripts.length + document.images.length") == 1


def test_the_search_filters_as_one_types(page: Any) -> None:
    assert _cards(page) == [f"t{i}" for i in range(20)]
    assert page.find_element("id", "found").text == "30 of 30"
    page.find_element("id", "search").send_keys("t29 WHAT is")
    assert _cards(page) == ["t29"]
    assert page.find_element("id", "found").text == "1 of 30"
    page.find_element("id", "search").send_keys(" nowhere")
    assert _cards(page) == []


def test_more_are_shown_when_asked_for(page: Any) -> None:
    more = page.find_element("id", "more")
    more.click()
    assert len(_cards(page)) == 30
    assert not more.is_displayed()


def test_items_are_filtered_by_what_changed(page: Any) -> None:
    _choose(page, "filter", "lost, 0-shot: before right, after wrong (0)")
    assert _cards(page) == []
    _choose(page, "filter", "gained, 0-shot: before wrong, after right (29)")
    assert len(_cards(page)) == 20
    assert page.find_element("id", "found").text == "29 of 30"


def test_another_stage_is_shown_with_its_own_filters(page: Any) -> None:
    _choose(page, "stage", "scores: scored candidates")
    assert _cards(page) == ["q0", "q1", "q2", "q9"]
    _choose(page, "filter", "questions with a preference pair (3)")
    assert _cards(page) == ["q0", "q1", "q2"]
    _choose(page, "stage", "pairs: preference pairs")
    assert len(_cards(page)) == 3
    assert not page.find_element("id", "filter").is_displayed()


@pytest.mark.parametrize("width", [320, 360, 768, 1100])
@pytest.mark.parametrize("of", ["whole", "traced", "several"])
def test_nothing_is_wider_than_the_screen(
    opened: Callable[[str], Any], request: pytest.FixtureRequest, of: str, width: int
) -> None:
    page = opened(request.getfixturevalue(f"{of}_page"))
    _screen(page, width)
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_text_of_page_and_plots_goes_with_the_scheme(page: Any, scheme: str, is_dark: bool) -> None:
    _screen(page, 1100, **{"color-scheme": scheme})
    page.refresh()
    script = (
        "const rgb = c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);"
        "const of = (q, p) => rgb(getComputedStyle(document.querySelector(q))[p]);"
        "return [of('body', 'backgroundColor'), of('body', 'color'), of('figure svg text', 'fill')]"
    )
    ground, text, plot = page.execute_script(script)
    assert (ground < 200) == is_dark
    assert (text > 500) == is_dark
    assert plot == text


def test_every_plot_has_a_size_and_colors(page: Any) -> None:
    seen = page.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => [svg.clientHeight,"
        " svg.textContent.trim().length,"
        " [...svg.querySelectorAll('path')].some(p => getComputedStyle(p).fill.includes(','))])"
    )
    assert len(seen) >= 5
    assert all(height > 100 and letters for height, letters, _ in seen)
    assert any(filled for _, _, filled in seen)


def test_it_prints(page: Any) -> None:
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not page.find_element("id", "search").is_displayed()
    assert len(_cards(page)) == 10
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def _focused(page: Any) -> str:
    """The focused element's id, or its text."""
    return str(
        page.execute_script(
            "const at = document.activeElement; return at.id || at.textContent.trim()"
        )
    )


def _follow(page: Any, place: Any, text: str) -> None:
    """Click a link in the page, and wait until it has led there."""
    link = place.find_element("link text", text)
    page.execute_script(
        "window.led = false; addEventListener('hashchange', () => { window.led = true })"
    )
    link.click()
    WebDriverWait(page, 20).until(lambda page: page.execute_script("return window.led"))


def _press(page: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("of", ["whole", "traced", "several"])
def test_axe_finds_nothing(
    opened: Callable[[str], Any], request: pytest.FixtureRequest, of: str, width: int, scheme: str
) -> None:
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    page = opened(request.getfixturevalue(f"{of}_page"))
    _screen(page, width, **{"color-scheme": scheme})
    page.refresh()
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.execute_script((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations.map("
        "v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html)])), e => done([String(e)]))"
    )
    assert found == []


@pytest.mark.parametrize("width", [360, 400])
def test_on_a_phone_an_interval_has_one_line_below_its_value(page: Any, width: int) -> None:
    _screen(page, width)
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    lines = page.execute_script(
        "return [...document.querySelectorAll('.interval')].map(part => {"
        " const cell = part.closest('td'), inside = document.createRange();"
        " inside.selectNodeContents(cell ?? part);"
        " const line = parseFloat(getComputedStyle(part).lineHeight);"
        " return [part.getClientRects().length, inside.getBoundingClientRect().height / line]})"
    )
    assert len(lines) > 8
    for of_interval, of_cell in lines:
        assert of_interval == 1
        assert of_cell < 2.5


def test_only_wide_tables_scroll_sideways(page: Any) -> None:
    _screen(page, 360)
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    seen = page.execute_script(
        "return [...document.body.querySelectorAll('*')].filter(each => !each.closest('.wide')"
        " && !each.closest('svg') && each.checkVisibility() && each.clientWidth > 1"
        " && each.getBoundingClientRect().right > 360.5).map(each => each.outerHTML.slice(0, 90))"
    )
    assert seen == []


def test_what_scrolls_can_be_reached_by_keyboard(page: Any) -> None:
    _screen(page, 360)
    page.refresh()
    reachable = (
        "return new Promise(done => requestAnimationFrame(() => setTimeout(() => done("
        "[...document.querySelectorAll('.wide')].filter(e => e.checkVisibility()).map(e => ["
        "e.scrollWidth > e.clientWidth, e.tabIndex === 0 && e.hasAttribute('aria-label')])), 50)))"
    )
    found = page.execute_script(reachable)
    assert [True, True] in found
    assert all(scrolls == reached for scrolls, reached in found)


def test_answers_stand_side_by_side_and_on_a_phone_below_each_other(traced: Any) -> None:
    script = (
        "const box = document.querySelector('article .entries');"
        "return [...box.children].map(each => Math.round(each.getBoundingClientRect().top))"
    )
    left, right = traced.execute_script(script)
    assert left == right
    edges = traced.execute_script(
        "return ['right', 'wrong', 'unreadable'].map(verdict => getComputedStyle("
        "document.querySelector(`.entry.is-${verdict}`)).borderLeft)"
    )
    assert len(set(edges)) == 3
    _screen(traced, 390)
    above, below = traced.execute_script(script)
    assert above < below


def test_an_item_shows_its_prompt_and_reasoning_on_request(traced: Any) -> None:
    card = traced.find_element("id", "search")
    card.send_keys("s11-0")
    item = next(a for a in traced.find_elements("css selector", "article") if a.is_displayed())
    assert "One plus one is 2." not in item.text
    for summary in item.find_elements("css selector", "summary"):
        summary.click()
    assert "One plus one is 2." in item.text
    assert f"It is {HOSTILE}" in item.text
    assert "unreadable" in item.text


def test_a_filter_is_set_by_keyboard(traced: Any) -> None:
    traced.find_element("id", "stage").send_keys("")
    _press(traced, "\ue004", "\ue015", "\ue015")  # tab, and down twice
    assert _focused(traced).startswith("filter")
    assert traced.find_element("id", "found").text == "29 of 30"
    _choose(traced, "filter", "an answer is unreadable (2)")
    assert _cards(traced) == ["s11-0", "s12-0"]


def test_a_row_is_followed_back_to_its_seed_by_clicking(traced: Any) -> None:
    _choose(traced, "stage", "pairs: preference pairs")
    trail = traced.find_element("css selector", ".sample:not([hidden]) .from")
    assert trail.text == "from drafts s10-0 and drafts s11-0 ← seeds"
    _follow(traced, trail, "drafts")
    assert traced.find_element("id", "found").text.endswith("sampled of 40")
    at = traced.switch_to.active_element
    assert at.find_element("css selector", ".id").text == "s10-0"
    _follow(traced, at, "seeds")
    at = traced.switch_to.active_element
    assert at.is_displayed()
    assert "Seed 10?" in at.text
    traced.back()
    WebDriverWait(traced, 20).until(lambda page: "Draft 10?" in page.switch_to.active_element.text)


def test_a_stage_leads_to_its_inputs_rows_and_log(traced: Any) -> None:
    _follow(traced, traced, "kept")
    (panel,) = (e for e in traced.find_elements("css selector", ".stage") if e.is_displayed())
    assert "kept" in panel.text
    assert "logs/kept.log" in panel.text
    _follow(traced, panel, "drafts")
    (panel,) = (e for e in traced.find_elements("css selector", ".stage") if e.is_displayed())
    assert panel.find_element("css selector", "h3").text == "drafts"
    _follow(traced, panel, "40 rows")
    assert _focused(traced).startswith("stage")
    assert _cards(traced)[0] == "s0-0"


def test_the_keyboard_comes_first_to_a_link_past_the_head(page: Any) -> None:
    _press(page, "\ue004")
    skip = page.switch_to.active_element
    assert (skip.text, skip.is_displayed()) == ("Skip to the content", True)
    _press(page, "\ue007")
    assert _focused(page).startswith("main")
