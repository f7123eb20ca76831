"""The page in a real browser, from disk: headless Chromium, driven by Selenium.

It needs Debian's chromium and chromium-driver, and the extra `browser`.
"""

import shutil
from pathlib import Path

import pytest
from made_results import made_study, make_results, with_many_cells

from humanline.report.page.page import make_page
from humanline.report.page.runs import anchor

PLANTED = ["<script>document.title = 'broken'</script>", "right \u202e left", "y" * 100_000]
WIDTHS = (400, 1400)

missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
]


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    """Two thousand cells, and outputs that try to be more than text."""
    study = made_study(tmp_path_factory.mktemp("made"))
    request = make_results(study, lambda run, number, text: (PLANTED[number:] or [text])[0])
    found = with_many_cells(study, request, 2000)
    make_page(found)
    return found


@pytest.fixture
def opened(browser, request_):
    """The page, just opened at a width; a console error fails the test."""

    def open_(width: int = 1400, fragment: str = ""):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get(f"{request_.paths.page.resolve().as_uri()}{fragment}")
        return browser

    yield open_
    assert browser.get_log("browser") == []


def of(driver, css: str) -> list:
    return driver.find_elements("css selector", css)


def text(driver, css: str) -> str:
    return of(driver, css)[0].text


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_ready_soon_and_no_wider_than_the_window(opened, width, request_):
    driver = opened(width)
    timing = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd"
    assert 0 < driver.execute_script(timing) < 2000
    assert request_.paths.page.stat().st_size < 5_000_000
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.title.startswith("Humanline")
    assert PLANTED[0] in text(driver, "#samples")
    assert "right [U+202E] left" in text(driver, "#samples")


@pytest.mark.parametrize("width", WIDTHS)
def test_dot_plots_have_readable_letters(opened, width):
    sizes = opened(width).execute_script(
        "return [...document.querySelectorAll('#verdicts svg.dots text')]"
        ".filter((t) => t.checkVisibility())"
        ".map((t) => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert len(sizes) > 10 and min(sizes) >= 11


def test_samples_are_filtered_by_table_cell_and_disagreement(opened):
    driver = opened()
    shown = len(of(driver, "#samples .outputs li:not(.gold)"))
    of(driver, "#samples [name=cell]")[0].click()
    prompts = len(of(driver, "#samples .samples > li"))
    assert len(of(driver, "#samples .outputs li:not(.gold)")) == shown - prompts
    of(driver, "#samples [name=odd]")[0].click()
    rows = of(driver, "#samples .outputs li:not(.gold)")
    assert rows and all("disagree" in row.text for row in rows)
    driver.execute_script(
        "const s = document.querySelector('[name=group]');"
        "s.value = [...s.options].find((o) => o.text === 'math reasoning').value;"
        "s.dispatchEvent(new Event('change', { bubbles: true }));"
    )
    assert "only what is not correct" in text(driver, "#samples form")
    told = {row.text for row in of(driver, "#samples .scores.odd")}
    assert told and told <= {"wrong", "no box", "timed out"}


def test_later_prompts_follow(opened):
    driver = opened()
    first = text(driver, "#samples .samples h3")
    earlier, later = of(driver, "#samples [data-step]")
    assert not earlier.is_enabled() and "1 to 10 of 12" in text(driver, "#samples [role=status]")
    later.click()
    assert text(driver, "#samples .samples h3") != first
    assert "11 to 12 of 12" in text(driver, "#samples [role=status]")
    assert earlier.is_enabled() and not later.is_enabled()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_link_opens_the_run_of_a_number(opened, request_, width):
    run = request_.runs[-1]  # beyond the cells that the page draws at first
    driver = opened(width, f"#{anchor(run.cell, seed=True)}")
    facts = text(driver, "#runs details details[open] dl")
    for part in (f"humanline train {run.cell.task} {run.name}", run.hashes.train, "metrics.csv"):
        assert part in facts
    assert f"logs/train/{run.cell.task}/{run.name}.log" in facts
    assert driver.execute_script("return document.activeElement.tagName") == "SUMMARY"
    files = [link.get_attribute("href") for link in of(driver, "#runs details details dl a")]
    assert any(Path(name.removeprefix("file://")).name == "train.json" for name in files)
    existing = [name for name in files if Path(name.removeprefix("file://")).exists()]
    assert {Path(name).name for name in existing} >= {"train.json", "metrics.csv"}


def test_runs_are_found_by_words(opened):
    driver = opened()
    assert len(of(driver, "#runs .cells > details")) == 50
    of(driver, "#runs [name=words]")[0].send_keys("offline humanline kto")
    names = [row.text for row in of(driver, "#runs .cells > details summary")]
    assert names and all("offline KTO" in name and "humanline" in name for name in names)


def column(driver, number: int) -> list[str]:
    """The texts of a column of the first table, from above."""
    return driver.execute_script(
        "return [...document.querySelector('table.sortable').tBodies[0].rows]"
        f".map((row) => row.cells[{number}].innerText)"
    )


def test_a_header_sorts_its_table_by_numbers_and_by_keyboard(opened):
    from selenium.webdriver import Keys

    driver = opened()
    buttons = of(driver, "table.sortable")[0].find_elements("css selector", "thead button")
    place = next(n for n, own in enumerate(buttons) if own.text.startswith("Score"))
    before, texts = column(driver, place), column(driver, 0)
    assert before[0].startswith(f"{float(before[0].split()[0])} [")

    def numbers(known):
        return [float(text.split()[0]) for text in known]

    header = buttons[place].find_element("xpath", "..")
    for press, (direction, expected) in enumerate(
        [
            ("ascending", sorted(numbers(before))),
            ("descending", sorted(numbers(before), reverse=True)),
            (None, numbers(before)),
        ]
    ):
        if press:
            buttons[place].send_keys(Keys.ENTER)
        else:
            buttons[place].click()
        assert header.get_attribute("aria-sort") == direction
        assert numbers(column(driver, place)) == expected
    buttons[0].send_keys(Keys.SPACE)
    by_name = column(driver, 0)
    assert by_name != texts and sorted(by_name) == sorted(texts)
    buttons[0].send_keys(Keys.SPACE)
    assert column(driver, 0) == by_name[::-1]
    assert driver.execute_script("return document.activeElement.tagName") == "BUTTON"


def test_rows_without_a_figure_come_last_in_both_directions(opened):
    driver = opened()
    driver.execute_script(
        "const cell = document.querySelector('table.sortable').tBodies[0].rows[0].cells[1];"
        "delete cell.dataset.value; cell.textContent = 'unknown';"
    )
    button = of(driver, "table.sortable thead button")[1]
    for _ in range(2):
        button.click()
        assert column(driver, 1)[-1] == "unknown" and "unknown" not in column(driver, 1)[:-1]


def test_a_row_leads_to_its_runs(opened):
    driver = opened()
    link = of(driver, "table.sortable tbody th a")[1]
    words = link.text
    link.click()
    assert words in text(driver, "#runs details[open] summary")
    assert "humanline train" in text(driver, "#runs details details[open] dl")


def test_all_controls_are_reached_by_keyboard(opened):
    from selenium.webdriver import ActionChains, Keys

    driver = opened(fragment="#samples")  # before it there is a link for every row of a table
    reached = set()
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.add(
            driver.execute_script(
                "const e = document.activeElement;"
                "return e.name || e.dataset.step || e.tagName.toLowerCase()"
            )
        )
    assert {"group", "odd", "cell", "a"} <= reached
    button = of(driver, "#samples [data-step='1']")[0]
    button.send_keys(Keys.ENTER)
    assert "11 to 12" in text(driver, "#samples [role=status]")
    summary = of(driver, "#runs summary")[0]
    summary.send_keys(Keys.SPACE)
    assert of(driver, "#runs details[open] dl")


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_fault(opened, width):
    """Contrast, names of controls, order of headings and more."""
    package = pytest.importorskip("axe_selenium_python", reason="axe is not installed")
    (script,) = Path(package.__file__).parent.rglob("axe.min.js")
    driver = opened(width, "")
    of(driver, "#runs summary")[0].click()
    driver.execute_script(  # axe looks at every element, and two thousand rows have the same faults
        "for (const row of [...document.querySelectorAll('table.sortable tbody tr')].slice(100))"
        "  row.remove();"
    )
    driver.execute_script(script.read_text("utf-8"))
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found["violations"]] == []


def test_it_prints(opened):
    import base64

    printed = base64.b64decode(opened().print_page())
    assert printed.startswith(b"%PDF") and len(printed) > 20_000


def test_without_script_the_page_says_so(browser, request_, tmp_path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(request_.paths.page.resolve().as_uri())
        assert "your browser does not run" in browser.page_source
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
