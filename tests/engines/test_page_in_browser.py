"""The page in a real browser, from disk: headless Chromium, driven by Selenium.

It needs Debian's chromium and chromium-driver; Selenium and axe come with the extra `test`, and
nothing is downloaded. A load of the page costs more than a check, so a test makes several.
"""

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from made_results import made_study, make_results, with_many_cells

from humanline.report.page.page import make_page
from humanline.report.page.runs import anchor
from humanline.report.page.tables import FIRST

PLANTED = [
    "<script>document.title = 'broken'</script>",
    "</script><img src=x onerror=\"document.title = 'broken'\">",
    "\"'><svg/onload=\"document.title = 'broken'\"> javascript:alert(1)",
    "broken \udcff\udcfe UTF-8",
    "right \u202e left \u2067 and \u200b\x1b[31m\x00 hidden",
    "z" + "\u0336\u0489" * 700 + " heaped",
    "y" * 100_000,
    "wide " * 300 + "\n" * 40 + "👩\u200d🔬 שלום",
]
CELLS, WIDTHS = 2000, (400, 1400)
TIMES = "performance.getEntriesByType('navigation')[0]"
LOADED = f"return location.protocol === 'file:' && {TIMES}.loadEventEnd > 0"

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
    # With both paths Selenium looks for no browser, and so asks no network.
    options.binary_location = shutil.which("chromium")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    """Two thousand cells, and texts that try to be more than text."""
    study = made_study(tmp_path_factory.mktemp("made"))
    request = make_results(study, lambda run, number, text: (PLANTED[number:] or [text])[0])
    told = " ".join([*PLANTED[:3], "y" * 2000])
    claims = request.claims.claims
    said = [own.model_copy(update={"claim": told, "untested": told}) for own in claims.claims]
    claims = replace(request.claims, claims=claims.model_copy(update={"claims": said}))
    request = replace(request, description=told, claims=claims)
    found = with_many_cells(study, request, CELLS)
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
        # Chromium's driver sometimes returns before the page is there.
        until(browser, lambda driver: driver.execute_script(LOADED))
        return browser

    yield open_
    assert browser.get_log("browser") == []


def of(driver, css: str) -> list:
    return driver.find_elements("css selector", css)


def until(driver, is_so) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 60, poll_frequency=0.05).until(is_so)


def text(driver, css: str) -> str:
    return of(driver, css)[0].text


def focused(driver, field: str) -> str:
    return driver.execute_script(f"return document.activeElement.{field}")


def is_no_wider_than_the_window(driver, width: int) -> bool:
    return driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_ready_soon_readable_and_no_wider_than_the_window(opened, width, request_):
    """Ready within two seconds, in the best of three loads: other jobs may have the processor."""
    times = []
    while len(times) < 3 and min(times, default=2000) >= 2000:
        driver = opened(width)
        times.append(driver.execute_script(f"return {TIMES}.domContentLoadedEventEnd"))
    assert 0 < min(times) < 2000
    assert request_.paths.page.stat().st_size < 5_000_000
    assert is_no_wider_than_the_window(driver, width)
    letters = driver.execute_script(
        "return [...document.querySelectorAll('#verdicts svg.dots text')]"
        ".filter((t) => t.checkVisibility())"
        ".map((t) => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert len(letters) > 10 and min(letters) >= 11
    axe_finds_no_fault(driver)


def axe_finds_no_fault(driver) -> None:
    """Contrast, names of controls, order of headings and more."""
    package = pytest.importorskip("axe_core_python", reason="axe is not installed")
    script = Path(package.__file__).with_name("axe.min.js").read_text("utf-8")
    of(driver, "#runs summary")[0].click()
    driver.execute_script(  # axe looks at every element, and like elements have the same faults
        "const lists = 'section, tbody, .samples, .outputs, .metrics, .cells';"
        "for (const list of document.querySelectorAll(lists))"
        "  for (const own of [...list.querySelectorAll(':scope > :is(article, tr, li, details)')]"
        "    .slice(3)) own.remove();"
        "for (const own of [...document.querySelectorAll('details')].slice(0, 9)) own.open = true;"
    )
    driver.execute_script(script)
    found = driver.execute_async_script(
        "const options = { resultTypes: ['violations'] };"
        "axe.run(options).then(arguments[arguments.length - 1])"
    )
    assert len(found["passes"]) > 20
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found["violations"]] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_planted_text_stays_text_within_its_box(opened, width):
    driver = opened(width)
    assert driver.title.startswith("Humanline")
    outputs = [row.text for row in of(driver, "#samples .outputs li:nth-child(2) .written")]
    assert outputs[:3] == PLANTED[:3]
    assert outputs[3] == "broken �� UTF-8"
    assert outputs[4] == "right [U+202E] left [U+2067] and [U+200B]␛[31m␀ hidden"
    assert outputs[5] == "z\u0336[1,400 marks] heaped"
    assert outputs[6].endswith("yy … (cut: 100,000 characters)") and len(outputs[6]) < 2100
    assert not of(driver, "#samples img, #samples svg, #samples script:not([type])")
    outside = driver.execute_script(
        "return [...document.querySelectorAll('#samples .outputs li')].filter((row) =>"
        "  [...row.children].some((own) => {"
        "    const [inner, outer] = [own, row].map((node) => node.getBoundingClientRect());"
        "    return inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1; }))"
        ".length"
    )
    assert outside == 0 and is_no_wider_than_the_window(driver, width)


def test_samples_are_filtered_by_table_cell_and_disagreement(opened):
    driver = opened()
    shown = len(of(driver, "#samples .outputs li:not(.gold)"))
    of(driver, "#samples [name=cell]:checked")[0].click()
    prompts = len(of(driver, "#samples .samples > li"))
    assert len(of(driver, "#samples .outputs li:not(.gold)")) == shown - prompts
    of(driver, "#samples [data-everything]")[0].click()
    cells = len(of(driver, "#samples [name=cell]:checked"))
    assert cells == len(of(driver, "#samples [name=cell]"))
    assert len(of(driver, "#samples .outputs li:not(.gold)")) == cells * prompts > shown
    of(driver, "#samples [name=odd]")[0].click()
    rows = of(driver, "#samples .outputs li:not(.gold)")
    assert rows and all("disagree" in row.text for row in rows)
    driver.execute_script(
        "const s = document.querySelector('[name=group]');"
        "s.value = [...s.options].find((o) => o.text === 'math reasoning').value;"
        "s.dispatchEvent(new Event('change', { bubbles: true }));"
    )
    assert "only what is not correct" in text(driver, "#samples form")
    told = {row.text for row in of(driver, "#samples .scores .odd")}
    assert told and told <= {"wrong", "no box", "timed out"}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_link_opens_the_run_of_a_number(opened, request_, width):
    run = request_.runs[-1]  # beyond the cells that the page draws at first
    driver = opened(width, f"#{anchor(run.cell, seed=True)}")
    facts = text(driver, "#runs details details[open] dl")
    for part in (f"humanline train {run.cell.task} {run.name}", run.hashes.train, "metrics.csv"):
        assert part in facts
    assert f"logs/train/{run.cell.task}/{run.name}.log" in facts
    assert focused(driver, "id") == anchor(run.cell, seed=True)
    links = [link.get_attribute("href") for link in of(driver, "#runs details details dl a")]
    files = [Path(unquote(name.removeprefix("file://"))) for name in links]
    assert {file.name for file in files if file.exists()} == {"train.json", "metrics.csv", run.name}
    assert is_no_wider_than_the_window(driver, width)


def test_rows_lead_to_their_runs_which_are_found_by_words_too(opened):
    driver = opened(1400, "#run-%E0%A4%A")  # it names nothing, and is no fault
    assert len(of(driver, "#runs .cells > details")) == 50
    link = of(driver, "table.sortable tbody th a")[1]
    words = link.text
    link.click()
    until(driver, lambda driver: of(driver, "#runs details details[open] dl"))
    assert words in text(driver, "#runs details[open] summary")
    assert "humanline train" in text(driver, "#runs details details[open] dl")
    of(driver, "table.sortable tbody tr:nth-child(3) td")[0].click()  # its figures lead there, too
    address = of(driver, "table.sortable tbody tr:nth-child(3) a")[0].get_attribute("href")
    assert driver.current_url == address
    of(driver, "#runs [name=words]")[0].send_keys("offline humanline kto")
    names = [row.text for row in of(driver, "#runs .cells > details summary")]
    assert names and all("offline KTO" in name and "humanline" in name for name in names)
    first = of(driver, "table.sortable tbody tr:nth-child(3) a")[0]
    first.click()  # the address is this already, and its cell is not drawn
    assert of(driver, "#runs details details[open] dl") and focused(driver, "tagName") == "SUMMARY"


SHORT, LONG = "table.sortable:not(:has(template))", "table.sortable:has(template)"


def column(driver, number: int, table: str = SHORT) -> list[str]:
    """The texts of a column of the first of some tables, from above."""
    return driver.execute_script(
        f"return [...document.querySelector('{table}').tBodies[0].rows]"
        f".map((row) => row.cells[{number}].innerText)"
    )


def test_a_header_sorts_its_table_by_numbers_and_by_keyboard(opened):
    from selenium.webdriver import Keys

    driver = opened()
    buttons = of(driver, SHORT)[0].find_elements("css selector", "thead button")
    place = 1
    assert buttons[place].text.startswith("LC win rate")
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
    assert focused(driver, "tagName") == "BUTTON"
    driver.execute_script(
        f"const cell = document.querySelector('{SHORT}').tBodies[0].rows[0].cells[1];"
        "delete cell.dataset.value; cell.textContent = 'unknown';"
    )
    for _ in range(2):  # a row without a figure comes last in both directions
        buttons[1].click()
        assert column(driver, 1)[-1] == "unknown" and "unknown" not in column(driver, 1)[:-1]


def test_a_long_table_shows_its_first_rows_until_asked(opened):
    driver = opened()
    first = column(driver, 0, LONG)
    assert len(first) == FIRST
    button = of(driver, f"{LONG} thead button")[1]
    button.click()
    assert len(column(driver, 0, LONG)) == FIRST and column(driver, 0, LONG) != first
    of(driver, "[data-rest] button")[0].click()
    shown = column(driver, 1, LONG)
    assert len(shown) > CELLS - 100 and not of(driver, "[data-rest]")
    assert driver.execute_script(
        f"const rows = [...document.querySelector('{LONG}').tBodies[0].rows];"
        "const known = rows.map((row) => parseFloat(row.cells[1].dataset.value));"
        "return known.every((own, place) => !place || !(own < known[place - 1]))"
    )


def test_all_controls_are_reached_by_keyboard(opened):
    from selenium.webdriver import ActionChains, Keys

    driver = opened()
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert focused(driver, "className") == "skip"
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert focused(driver, "id") == "main"
    driver.get(f"{driver.current_url.split('#')[0]}#samples")  # past the links of every row
    reached = set()
    for _ in range(12):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.add(
            driver.execute_script(
                "const e = document.activeElement; return e.name || e.tagName.toLowerCase()"
            )
        )
    assert {"group", "odd", "cell"} <= reached
    status = "#samples [role=status]"
    first = text(driver, "#samples .samples h3")
    earlier, later = of(driver, "#samples [data-step]")
    assert not earlier.is_enabled() and "1 to 10 of 12" in text(driver, status)
    later.send_keys(Keys.ENTER)
    assert text(driver, "#samples .samples h3") != first
    assert focused(driver, "role") == "status"
    assert "prompts 11 to 12 of 12" in text(driver, status)
    assert earlier.is_enabled() and not later.is_enabled()
    summary = of(driver, "#runs summary")[0]
    summary.send_keys(Keys.SPACE)
    until(driver, lambda driver: of(driver, "#runs details[open] dl"))


def test_it_prints_and_says_what_it_needs_without_script(browser, opened, request_):
    printed = base64.b64decode(opened().print_page())
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(request_.paths.page.resolve().as_uri())
        assert "your browser does not run" in browser.page_source
        controls = [own for own in of(browser, "main :is(button, input, select)")]
        assert controls and not any(own.is_displayed() for own in controls)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_in_a_frame_it_links_to_no_other_file(browser, request_, tmp_path):
    """Snakemake's report shows it so, without the files beside it."""
    whole = tmp_path / "report.html"
    page = request_.paths.page.resolve().as_uri()
    whole.write_text(f"<iframe src='{page}#{anchor(request_.runs[-1].cell, seed=True)}'></iframe>")
    browser.get(whole.as_uri())
    browser.switch_to.frame(0)
    assert "metrics.csv" in browser.execute_script(
        "return document.querySelector('#runs').innerText"
    )
    read = "return [...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))"
    links = browser.execute_script(read)
    assert len(links) > 100 and all(link.startswith("#") for link in links)
