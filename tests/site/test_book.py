"""The book as a reader meets it: built from the stored notebooks, opened in a real browser.

Without Chromium and its driver, or without npm (which brings axe-core), those tests are skipped.
"""

import functools
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from places import NOTEBOOKS, ROOT

CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
BESIDE = ["index", "explore", "exercises", "glossary", "notation", "teaching"]
PAGES = [*BESIDE, *CHAPTERS]
RULES = ["color-contrast", "image-alt", "link-name", "heading-order"]
AXE = "axe-core@4.14.1"
PHONE, DESK = (390, 844), (1300, 900)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, str(ROOT / "site" / "book.py"), "--out", str(out)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(book: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver: apt install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("axe")
    try:
        subprocess.run(["npm", "pack", AXE], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no npm that brings axe-core")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found is not None
        return found.read().decode()


def test_every_link_leads_somewhere(book: Path) -> None:
    ids = {
        page.name: set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
        for page in book.glob("*.html")
    }
    assert {f"{name}.html" for name in PAGES} <= ids.keys()
    dead = []
    for name in ids:
        text = (book / name).read_text(encoding="utf-8")
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:", link):
                continue
            path, anchor = urldefrag(link)
            target = path.split("?")[0] or name
            there = (book / unquote(target)).exists()
            if not there or (anchor and target in ids and unquote(anchor) not in ids[target]):
                dead.append(f"{name}: {link}")
    assert not dead


def test_nothing_is_loaded_from_elsewhere(book: Path) -> None:
    for page in book.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"(https?:[^\"]+)", text
        )
        assert not loaded, page.name


def test_figures_have_their_alt_texts(book: Path) -> None:
    for name in CHAPTERS:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        alts = [
            output.metadata["image/png"]["alt"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        shown = re.findall(r"<img[^>]*>", (book / f"{name}.html").read_text(encoding="utf-8"))
        assert sum('alt="_images' not in one and 'alt=""' not in one for one in shown) >= len(alts)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens(page: str, address: str, browser: Any, axe: str) -> None:
    browser.set_window_size(*DESK)
    browser.get(f"{address}/{page}.html")
    browser.execute_async_script(
        "const done = arguments[0]; const m = window.MathJax;"
        "(m && m.startup ? m.startup.promise : Promise.resolve()).then(done)"
    )
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not severe
    raw, rendered, wrong = browser.execute_script(
        "const count = q => document.querySelectorAll(q).length;"
        "return [count('.math'), count('.math mjx-container'), count('mjx-merror')]"
    )
    assert (raw, wrong) == (rendered, 0)
    text = browser.execute_script(
        "const all = document.querySelector('main').cloneNode(true);"
        "all.querySelectorAll('pre').forEach(one => one.remove()); return all.textContent"
    )
    assert not re.search(r"\$\$|\\(?:frac|log|sum)\b", text)
    browser.execute_script(axe)
    for theme in ("light", "dark"):
        found = browser.execute_async_script(
            "document.documentElement.dataset.theme = arguments[0];"
            "const what = {runOnly: arguments[1], resultTypes: ['violations']};"
            "axe.run('main', what).then(arguments[2])",
            theme,
            RULES,
        )
        said = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
        assert not said, theme


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone(page: str, address: str, browser: Any) -> None:
    browser.set_window_size(*PHONE)
    browser.get(f"{address}/{page}.html")
    wide, window = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert wide <= window


def test_a_solution_is_folded_and_unfolds(address: str, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(*DESK)
    browser.get(f"{address}/{CHAPTERS[0]}.html")
    fold = browser.find_element("css selector", ".tag_solution details")
    code = fold.find_element("css selector", "pre")
    assert not code.is_displayed()
    fold.find_element("css selector", "summary").click()
    WebDriverWait(browser, 20).until(lambda _: code.is_displayed())


def test_search_finds_a_term(address: str, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{address}/search.html?q=InfoNCE")
    WebDriverWait(browser, 20).until(
        lambda one: one.find_elements("css selector", "#search-results li a")
    )
    found = browser.find_element("css selector", "#search-results").text
    assert "Variational bounds" in found


def test_the_explorer_shows_what_is_chosen(address: str, browser: Any) -> None:
    from selenium.webdriver.support.ui import Select

    def seen() -> tuple[int, int, str]:
        shapes = [
            len(browser.find_elements("css selector", f"#explorer {one}"))
            for one in ("rect", "polygon")
        ]
        return shapes[0], shapes[1], browser.find_element("id", "explorer-words").text

    browser.get(f"{address}/explore.html")
    regions, outlines, words = seen()
    assert (regions, outlines) == (16, 0)
    assert re.fullmatch(r"“.+” scores higher here than in \d+ % of the test images\.", words)
    Select(browser.find_element("id", "explorer-sentence")).select_by_visible_text(
        "No pleural effusion."
    )
    browser.find_element("id", "explorer-map").click()
    browser.find_element("id", "explorer-truth").click()
    regions, outlines, words = seen()
    assert regions == 0 < outlines
    assert words.startswith("“No pleural effusion.” scores")
    assert "There is: " in words


def test_nothing_of_a_slide_is_cut_off(browser: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "site" / "slides.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    browser.set_window_size(1280, 860)
    browser.get((tmp_path / "index.html").as_uri())
    browser.execute_async_script("MathJax.startup.promise.then(arguments[0])")
    number, plugins, cut = browser.execute_script(
        "Reveal.configure({transition: 'none'}); const cut = [];"
        "const box = document.querySelector('.reveal .slides').getBoundingClientRect();"
        "for (const slide of Reveal.getSlides()) {"
        "  const { h, v } = Reveal.getIndices(slide); Reveal.slide(h, v);"
        "  for (const part of slide.querySelectorAll('mjx-container, img, p, ul')) {"
        "    const { width, right, bottom } = part.getBoundingClientRect();"
        "    const wide = part.tagName[0] === 'M' && part.scrollWidth > part.clientWidth + 2;"
        "    if (width && (wide || right > box.right + 3 || bottom > innerHeight + 1))"
        "      cut.push(slide.textContent.trim().slice(0, 60));"
        "  }"
        "}"
        "return [Reveal.getTotalSlides(), Object.keys(Reveal.getPlugins()), cut]"
    )
    assert number > 100
    assert plugins == ["notes"]
    assert not cut


def test_code_can_be_copied(address: str, browser: Any) -> None:
    browser.get(f"{address}/{CHAPTERS[0]}.html")
    assert len(browser.find_elements("css selector", "button.copybtn")) > 10


def test_exercises_are_listed_each_with_its_first_sentence() -> None:
    make = runpy.run_path(str(ROOT / "site" / "book.py"))
    text = "### Exercise 3.1: an odd one\n\nWrite it, in\nnats. Then more."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    assert list(make["exercises"](notebook)) == [
        ("3.1", "exercise-3-1-an-odd-one", "Write it, in nats.")
    ]
