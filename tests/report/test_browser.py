"""The page in a browser: no errors, the search, hostile text, light and dark, a phone, paper."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.runs import HOSTILE

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
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
def page(driver: Any, whole_page: str, tmp_path: Path) -> Any:
    """The page from disk, on a screen of the usual width; the console must stay empty."""
    file = tmp_path / "report.html"
    file.write_text(whole_page, encoding="utf-8")
    _screen(driver, 1100)
    driver.get(file.as_uri())
    yield driver
    assert driver.get_log("browser") == []


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
    _choose(page, "filter", "0-shot: before right, after wrong")
    assert _cards(page) == []
    _choose(page, "filter", "0-shot: before wrong, after right")
    assert len(_cards(page)) == 20
    assert page.find_element("id", "found").text == "29 of 30"


def test_another_stage_is_shown_with_its_own_filters(page: Any) -> None:
    _choose(page, "stage", "scores: scored candidates")
    assert _cards(page) == ["q0", "q1", "q2", "q9"]
    _choose(page, "filter", "questions with a preference pair")
    assert _cards(page) == ["q0", "q1", "q2"]
    _choose(page, "stage", "pairs: preference pairs")
    assert len(_cards(page)) == 3
    assert not page.find_element("id", "filter").is_displayed()


@pytest.mark.parametrize("width", [320, 360, 768, 1100])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
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
