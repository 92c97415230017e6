"""The page as people use it: in a browser, by mouse and by keys, in both themes and at two widths."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import Panel, write_page
from benchmarks.page.one_set import write_set_page
from condense import distill, load_data

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: no browser tests")

THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def report(make_record, draw_pictures, tmp_path: Path) -> Path:
    """A page with everything that a page can have."""
    nearest, classes = tuple((number, 0.125) for number in range(20)), {str(label): 0.5 for label in range(10)}
    fields = {"nearest": nearest, "class_accuracies": classes, "curves": {"loss": (3.0, 2.0, 1.0)}}
    records = [
        make_record("random", (0.40, 0.41), bytes=1000),
        make_record("dm", (0.60, 0.61), bytes=2000, iterations=500, notes=("slow",), **fields),
        make_record("dsa", (0.50, 0.51), bytes=2040, iterations=300, settings={"image_lr": 0.5}, **fields),
        make_record("idm", (0.70, 0.71), bytes=9000, machine="quill", stored_images=5),
        make_record("dm", (0.65, 0.66), ipc=2, iterations=500),
        make_record("dc", failed=True),
    ]
    for record in records[1:3]:
        draw_pictures(record, tmp_path)
    return write_page(records, tmp_path, public=True, panels=[Panel("Privacy", ("attack", "AUC"), (("loss", "0.5"),))])


@pytest.fixture
def opened(browser) -> Iterator[Any]:
    """Opens a file in a new window and, after the test, checks that nothing was asked for and nothing went wrong."""
    windows, wrong = [], []

    def open_page(path: Path, fragment: str = "", width: int = 1400, theme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        windows.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not _own(request.url) else None)
        page.goto(path.as_uri() + fragment)
        return page

    def _own(url: str) -> bool:
        return url.startswith(("file:", "data:", "blob:"))

    yield open_page
    for context in windows:
        context.close()
    assert wrong == []


def table_of(page: Any, number: int = 0) -> Any:
    return page.locator("table.ranked").nth(number)


def names(page: Any) -> list[str]:
    return table_of(page).locator(".opens").all_inner_texts()


def draw_all(page: Any) -> None:
    for box in page.locator(".chart").all():
        box.scroll_into_view_if_needed()
        box.locator(".main-svg").first.wait_for()


def test_tables_are_sorted_by_a_click_and_by_a_key(report: Path, opened):
    page = opened(report)
    assert names(page) == ["idm", "dm", "dsa", "random"]
    heading = table_of(page).locator("thead th[aria-sort]", has_text="bytes")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert names(page) == ["idm", "dsa", "dm", "random"]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == ["random", "dm", "dsa", "idm"]
    table_of(page).locator("thead th[aria-sort]", has_text="method").get_by_role("button").click()
    assert names(page) == ["dm", "dsa", "idm", "random"]
    table_of(page).locator("thead th[aria-sort]", has_text="updates").get_by_role("button").click()
    assert names(page) == ["dm", "dsa", "idm", "random"]  # those without a number stay behind
    table_of(page).locator("thead th[aria-sort]", has_text="updates").get_by_role("button").click()
    assert names(page) == ["dsa", "dm", "idm", "random"]
    assert table_of(page).locator("th[aria-sort=ascending]").count() == 1


def test_rows_of_equal_bytes_are_ranked_together_and_others_are_grey(report: Path, opened):
    page = opened(report)
    ranks = lambda: [text.split(" ")[0] for text in table_of(page).locator("td.rank").all_inner_texts()]  # noqa: E731
    assert ranks() == ["1", "2", "3", "4"]
    page.get_by_label("bytes", exact=True).check()
    assert ranks() == ["", "1", "2", ""]
    assert table_of(page).locator("tbody.outside .opens").all_inner_texts() == ["idm", "random"]
    page.locator("article").first.locator(".budget select").select_option(label="9,000 bytes, 1 of 4 rows")
    assert table_of(page).locator("tbody.outside").count() == 3
    page.get_by_label("updates", exact=True).check()
    assert ranks() == ["", "", "", ""]  # nobody made as many updates as another one
    page.get_by_label("nothing", exact=True).check()
    assert ranks() == ["1", "2", "3", "4"]
    assert page.locator("tbody.outside").count() == 0


def test_a_row_is_opened_by_keys_and_by_a_click(report: Path, opened):
    page = opened(report)
    button = page.get_by_role("button", name="dm", exact=True).first
    details = page.locator(f"[id='{button.get_attribute('aria-controls')}']")
    assert not details.is_visible()
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert "condense distill dm --data digits" in details.inner_text()
    assert "slow" in details.inner_text()
    page.keyboard.press("Space")
    assert not details.is_visible()
    table_of(page).locator("tbody[data-key]").nth(1).locator("td").nth(2).click()
    assert details.is_visible()


def test_a_link_to_a_row_opens_and_focuses_it(report: Path, opened):
    page = opened(report)
    row = table_of(page).locator("tbody[data-key]").nth(2)
    key = row.get_attribute("data-key")
    page = opened(report, f"#row={key}")
    row = page.locator(f"tbody[data-key='{key}']")
    assert row.locator(".details").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "dsa"
    other = table_of(page).locator("tbody[data-key]").first
    page.evaluate("key => { location.hash = `row=${key}` }", other.get_attribute("data-key"))
    other.locator(".details").wait_for()
    page.evaluate("location.hash = '#row=%E0%A4%A'")  # no text in UTF-8
    page.evaluate("location.hash = '#row=nothing'")


def test_every_chart_has_its_data_in_a_table_whose_lines_lead_to_rows(report: Path, opened):
    page = opened(report)
    draw_all(page)
    figures = page.locator("#figures > figure")
    assert figures.locator("h3").all_inner_texts() == [
        "Accuracy against images per class",
        "Accuracy against bytes of a set",
        "Accuracy against minutes of making a set",
        "Settings, in parallel",
        "Learning curve: loss",
        "Accuracy by class: 1 per class",
    ]
    for figure in figures.all():
        button = figure.get_by_role("button", name="Data of the chart")
        button.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        assert figure.locator("table tbody tr").count() >= 2
    link = figures.first.locator("table a").first
    name = link.inner_text()
    link.click()
    page.wait_for_function("document.activeElement.classList.contains('opens')")
    assert page.evaluate("document.activeElement.textContent") == name


def test_pictures_open_larger_beside_the_nearest_real_image(report: Path, opened):
    page = opened(report)
    page.get_by_label("Show").select_option(label="dsa (digits, 1 per class)")
    assert page.locator("#tiles h3").all_inner_texts() == [str(label) for label in range(10)]
    tiles = page.locator("#tiles button")
    assert tiles.count() == 20
    tiles.nth(3).focus()
    page.keyboard.press("Enter")
    zoom = page.locator("#zoom")
    assert zoom.get_by_role("heading").inner_text() == "dsa, 1, image 2"
    assert "3 at 0.125" in zoom.inner_text()
    assert zoom.locator(".tile").count() == 2
    page.keyboard.press("ArrowRight")
    assert zoom.get_by_role("heading").inner_text() == "dsa, 2, image 1"
    page.keyboard.press("Escape")
    assert not zoom.is_visible()
    assert "image 2" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.get_by_label("Show").select_option(label="4 (digits, 1 per class)")
    assert page.locator("#tiles h3").all_inner_texts() == ["dm", "dsa"]
    page.get_by_role("button", name="dsa", exact=True).click()
    page.get_by_role("button", name="Its pictures").click()
    assert page.locator("#tiles h3").count() == 10


def test_the_theme_is_that_of_the_system_until_the_button_says_otherwise(report: Path, opened):
    page = opened(report, theme="dark")
    background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    dark = background()
    button = page.get_by_role("button", name="dark")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert background() == "rgb(255, 255, 255)" != dark


@pytest.mark.parametrize(("theme", "width"), [("light", 400), ("dark", 1400)])  # colours do not depend on the width
def test_nothing_keeps_anybody_out(report: Path, opened, theme: str, width: int):
    page = opened(report, width=width, theme=theme)
    draw_all(page)
    page.get_by_label("bytes", exact=True).check()
    for button in page.locator("button.opens").all()[:2]:
        button.click()
    for button in page.get_by_role("button", name="Data of the chart").all():
        button.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width  # what is wider scrolls by itself
    check(page)
    page.locator("#tiles button").first.click()
    check(page)


@pytest.mark.parametrize("theme", THEMES)
def test_the_page_of_one_set_shows_its_images_and_its_curve(opened, tmp_path: Path, theme: str):
    made = distill("dm", load_data("digits"), ipc=2, iterations=3, network="convnet-w8-in")
    write_set_page(made, tmp_path / "set.html", "set.h5")
    page = opened(tmp_path / "set.html", theme=theme)
    draw_all(page)
    assert page.locator("#tiles button").count() == 20
    check(page)
    page.locator("#tiles button").first.click()
    assert page.locator("#zoom").get_by_role("heading").inner_text() == "set.h5, 0, image 1"


def check(page: Any) -> None:
    """No serious or critical finding of axe."""
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
