"""The page in a real browser: it opens from disk, and everything on it answers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1280,900",
)
PATIENCE_S = 300
"""A loaded machine starts a browser slowly."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        wanted = "chromedriver" if found else f"none of {', '.join(BROWSERS)}"
        pytest.skip(f"no browser to test in: {wanted} on PATH (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.command_executor.client_config.timeout = PATIENCE_S
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def report_page(
    finished_job: Path, _cache_of_the_session: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from toolkit.reporting.page.page import report
    from toolkit.reporting.page.sources import Sources

    names = ("data", "runs", "bundle", "submission.csv", "labels.csv")
    out = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        return report(Sources(*(finished_job / name for name in names)), out).page


Run = Callable[..., Any]


@pytest.fixture
def run(browser: Chrome, report_page: Path) -> Iterator[Run]:
    """Open the page anew; run JavaScript in it. At the end nothing may stand in the console."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(report_page.as_uri())
    browser.execute_script("localStorage.clear()")
    yield browser.execute_script
    assert browser.get_log("browser") == []


def press(browser: Chrome, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.switch_to.active_element.send_keys(getattr(Keys, key))


def test_it_opens_from_disk_quickly_and_asks_for_nothing(browser: Chrome, run: Run) -> None:
    assert "Ensemble of 3 networks" in browser.title
    timing = "const t = performance.getEntriesByType('navigation')[0];"
    assert run(timing + "return t.loadEventEnd - t.startTime") < 1000 * PATIENCE_S
    loaded = run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_names_are_shown_as_they_are_and_run_nothing(browser: Chrome, run: Run) -> None:
    text = run("return document.querySelector('#ensemble').textContent")
    assert "<b>bold</b>" in text
    assert "</script><script>alert(1)</script>" in text


def test_a_table_sorts_both_ways(browser: Chrome, run: Run) -> None:
    table = "document.querySelector('#ensemble table')"
    column = f"return [...{table}.tBodies[0].rows].map(row => Number(row.cells[1].dataset.v))"
    click = f"{table}.querySelectorAll('th button')[1].click()"
    sort = f"return {table}.querySelectorAll('th')[1].getAttribute('aria-sort')"
    before = run(column)
    run(click)
    assert (run(sort), run(column)) == ("descending", sorted(before, reverse=True))
    run(click)
    assert (run(sort), run(column)) == ("ascending", sorted(before))


def test_a_photo_opens_with_what_every_member_says(browser: Chrome, run: Run) -> None:
    from selenium.webdriver.common.by import By

    cards = browser.find_elements(By.CSS_SELECTOR, "#highest-loss button")
    assert len(cards) == 12
    run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", cards[0])
    cards[0].click()
    told = "return [...document.querySelectorAll('#photo h4')].map(one => one.textContent)"
    assert run(told) == ["ensemble", "alpha", "beta", "gamma"]
    first = run("return document.querySelector('#photo-name').textContent")
    shares = run(
        "return [...document.querySelectorAll('#photo .voters ul')].map(list => "
        "[...list.querySelectorAll('li span:last-child')].reduce("
        "(sum, one) => sum + parseFloat(one.textContent), 0))"
    )
    assert shares == pytest.approx([100] * 4, abs=0.3)
    assert run("return document.querySelector('#photo img').naturalWidth") > 0
    press(browser, "ARROW_RIGHT")
    assert run("return document.querySelector('#photo-name').textContent") != first
    press(browser, "ARROW_LEFT")
    assert run("return document.querySelector('#photo-name').textContent") == first
    press(browser, "ESCAPE")
    assert run("return document.querySelector('#photo').open") is False
    assert run("return document.activeElement.dataset.photo") == cards[0].get_attribute(
        "data-photo"
    )
    press(browser, "ENTER")
    assert run("return document.querySelector('#photo').open") is True


def test_photos_are_filtered_by_class_and_by_id(browser: Chrome, run: Run) -> None:
    choose = (
        "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
        "box.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    run(choose, "[data-for=highest-loss] select", "0")
    data = "const data = JSON.parse(document.querySelector('#held-out').textContent);"
    shown = run(
        data + "return [...document.querySelectorAll('#highest-loss li:not([hidden]) button')]"
        ".map(one => [data.truth[one.dataset.photo], data.answer[one.dataset.photo]])"
    )
    assert 4 <= len(shown) < 12
    assert all(0 in pair for pair in shown)
    run(choose, "#photos-id", "11")
    rows = "return [...document.querySelectorAll('#photos-table tbody tr')].map(one => one.cells[0]"
    assert run(rows + ".textContent)") == ["11.jpg"]


def test_the_theme_switches_and_is_remembered(browser: Chrome, run: Run, report_page: Path) -> None:
    paper = "return getComputedStyle(document.querySelector('main > section')).backgroundColor"
    choose = (
        "const box = document.querySelector('#theme'); box.value = arguments[0];"
        "box.dispatchEvent(new Event('change'))"
    )
    run(choose, "light")
    light = run(paper)
    run(choose, "dark")
    dark = run(paper)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(26, 29, 33)")
    browser.get(report_page.as_uri())
    assert run(paper) == dark
    run(choose, "light")
    assert run(paper) == light


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Chrome, run: Run, theme: str) -> None:
    """WCAG AA: 4.5 to 1, for all text that the page's variables colour."""
    worst = run(
        """
        document.documentElement.dataset.theme = arguments[0];
        const probe = document.body.appendChild(document.createElement("i"));
        const luminance = (name) => {
            probe.style.color = `var(--${name})`;
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
            const linear = parts.map((part) => part / 255).map(
                (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const pairs = [];
        for (const text of ["ink", "muted", "right", "wrong", "series-1"])
            for (const behind of ["paper", "page", "tint"]) pairs.push([text, behind]);
        pairs.push(["ink", "heat"]);
        const ratios = pairs.map(([text, behind]) => {
            const [low, high] = [luminance(text), luminance(behind)].sort((a, b) => a - b);
            return [(high + 0.05) / (low + 0.05), text, behind];
        });
        return ratios.sort((a, b) => a[0] - b[0])[0];
        """,
        theme,
    )
    assert worst[0] >= 4.5, worst


def test_a_phone_scrolls_down_only(browser: Chrome, run: Run) -> None:
    screen = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    until = time.monotonic() + PATIENCE_S
    while run("return innerWidth") != 390 and time.monotonic() < until:
        time.sleep(0.05)
    assert run("return document.documentElement.scrollWidth") == 390
    wide = run(
        "return [...document.querySelectorAll('main *, header *, footer *')].filter(one => "
        "one.getBoundingClientRect().right > 391 && !one.closest('.scroll') && "
        "!one.closest('.hidden-text') && one.checkVisibility()).map(one => one.outerHTML)"
    )
    assert wide == []


def test_print_shows_what_is_folded_and_hides_what_is_pressed(browser: Chrome, run: Run) -> None:
    assert len(browser.print_page()) > 10_000
    assert run("return [...document.querySelectorAll('details')].every(one => one.open)")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    try:
        assert [run(hidden, one) for one in ("nav", ".tools", ".theme")] == ["none"] * 3
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_controls_have_names_and_sections_have_headings(browser: Chrome, run: Run) -> None:
    unnamed = run(
        "return [...document.querySelectorAll('button, select, input')].filter(one => !("
        "one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))"
        ".map(one => one.outerHTML)"
    )
    assert unnamed == []
    assert run("return document.querySelectorAll('main').length") == 1
    assert run("return document.querySelectorAll('h1').length") == 1
    assert run("return document.documentElement.lang") == "en"
    assert run(
        "return [...document.querySelectorAll('main > section')].every("
        "one => document.getElementById(one.getAttribute('aria-labelledby')))"
    )
