"""The page in a real browser, headless: each control that the three jobs show, on the demo inputs."""

import json
import os
import re
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio

pytest.importorskip("fastapi", reason="the page needs lacunar[serve]")
pytest.importorskip("selenium", reason="the page is tested with selenium, which is not installed")

from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from web_inputs import write_inputs
from web_page import CHROMIUM, DRIVER, Page, chromium, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here (Debian: chromium-driver)"),
    pytest.mark.skipif(
        "LACUNAR_BROWSER" not in os.environ, reason="set LACUNAR_BROWSER=1 to test the page in Chromium"
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address that `lacunar serve` prints."""
    shown = tmp_path_factory.mktemp("shown")
    write_inputs(shown)
    with serving(shown, tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(browser, address):
    return Page(browser, address)


def test_the_token_leaves_the_address(page):
    assert "token" not in page.driver.current_url


def test_paint_undo_cancel_run_again_hover_swipe_download(page):
    page.open_demo("temperature", "simulated")
    share = page.text("share")
    page.click("[data-tool=brush]")
    page.drag((-150, 150), (60, 10), (40, 10))
    page.until(f"document.getElementById('share').textContent !== '{share}'")
    page.click("#undo")
    page.until(f"document.getElementById('share').textContent === '{share}'")
    ActionChains(page.driver).key_down(Keys.CONTROL).key_down(Keys.SHIFT).send_keys("z").key_up(Keys.SHIFT).key_up(
        Keys.CONTROL
    ).perform()
    page.until(f"document.getElementById('share').textContent !== '{share}'")
    page.click("[data-tool=pan]")
    page.run()
    page.click("#jobs li:first-child button")
    page.until("document.querySelector('#jobs li').dataset.state === 'cancelled'")
    page.set("option-preset", "instant")
    page.run()
    page.ended()
    said = page.hover(-100, 130)
    row, col = map(int, re.search(r"row (\d+) col (\d+)", said).groups())
    with rasterio.open(page.downloaded("filled.tif")) as dataset:
        value, source, sigma = dataset.read([1, 2, 3])[:, row, col]
    assert said.startswith(f"{value - 273.15:.2f} °C")
    assert ("± " in said) == (source == 2)
    if source == 2:
        assert f"± {sigma:.2f}, filled" in said
    page.click("#swipe-button")
    clip = "document.querySelector('.leaflet-after-pane').style.clipPath"
    page.until(f"{clip}.startsWith('polygon')")
    page.click("#swipe-button")
    page.until(f"{clip} === ''")


def test_water_follows_the_threshold_and_a_lake_can_be_seen(page):
    page.open_demo("temperature", "simulated")
    page.click("[data-job=water]")
    page.set("option-samples", "1")
    page.run()
    page.ended()
    page.until("document.querySelectorAll('#lakes tbody tr').length > 0")
    zoomed = "document.querySelector('#lakes tbody tr td:nth-child(2)').textContent"
    largest = page.driver.execute_script(f"return {zoomed}")
    page.set("threshold", "95", "input")
    page.until(f"({zoomed} ?? '') !== '{largest}'")
    before = page.hover(0, 0)
    page.click("#lakes tbody tr")
    assert page.hover(1, 1) != before


def test_suspect_places_are_decided_in_the_table_and_in_the_image(page):
    page.open_file("cold.tif")
    page.click("#find-suspects")
    page.until("document.querySelectorAll('#suspects tbody tr').length === 2")
    share = page.text("share")
    pressed = "[...document.querySelectorAll('#suspects tbody tr:first-child button')].map(b => b.ariaPressed).join()"
    page.click("#suspects tbody tr:first-child button")
    page.until(f"{pressed} === 'true,false'")
    page.until(f"document.getElementById('share').textContent !== '{share}'")
    page.click("#suspects tbody tr:first-child")  # in the middle of the view now
    page.until("[...document.querySelectorAll('.leaflet-suspect-pane canvas')].some(one => one.planes)")
    ActionChains(page.driver).move_to_element(page.map).click().perform()
    page.until(f"{pressed} === 'false,true'")
    page.until(f"document.getElementById('share').textContent === '{share}'")
    page.click("#undo")
    page.until(f"{pressed} === 'true,false'")


def test_another_band_is_shown(page):
    page.open_file("two.tif")
    low = page.text("low-text")
    page.set("band", "2")
    page.until(f"document.getElementById('low-text').textContent !== '{low}'")
    assert page.driver.execute_script("return document.getElementById('band').value") == "2"


def test_a_date_that_is_dropped_is_compared(page):
    page.open_file("lake_2023-05-01.tif")
    page.compare_with("lake_2019-05-01.tif")
    page.until("document.getElementById('command').textContent.includes('--change')")
    assert page.driver.execute_script("return document.getElementById('preview').hidden")
    page.set("option-samples", "1")
    page.run()
    page.ended()
    page.until("document.querySelectorAll('#dates tbody tr').length === 2")
    page.until("[...document.querySelectorAll('.leaflet-after-pane canvas')].some(one => one.planes)")
    assert page.hover(0, 0).startswith("water on both dates")


def test_the_link_of_an_option_leads_to_its_place(page):
    address = page.driver.execute_script("return document.querySelector('#advanced .about').href")
    before = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(address)
    assert page.driver.execute_script("return document.querySelector(':target').textContent").startswith("--")
    page.driver.close()
    page.driver.switch_to.window(before)


def test_a_picture_is_filled_where_it_was_masked(page):
    page.open_demo("picture", "astronaut")
    page.until("document.querySelector('[data-job=picture]').getAttribute('aria-selected') === 'true'")
    page.set("option-preset", "instant")
    page.run()
    page.ended()
    page.until(
        "document.querySelectorAll('.strip img').length === 1 && document.querySelector('.strip img').naturalWidth > 0"
    )
    from PIL import Image
    from skimage.data import astronaut

    filled, given = np.asarray(Image.open(page.downloaded("filled.png"))), astronaut()
    changed = (filled != given).any(axis=-1)
    assert 0 < changed.mean() < 0.02
    rows, cols = np.nonzero(changed)
    assert 66 <= rows.min() <= rows.max() < 176  # her face
    assert 172 <= cols.min() <= cols.max() < 282


@pytest.mark.parametrize(("language", "word"), [("de", "Temperatur"), ("es", "Temperatura"), ("pt", "Temperatura")])
def test_the_page_speaks(page, language, word):
    page.set("language", language)
    page.until(f"document.querySelector('[data-job=fill]').textContent === '{word}'")
    page.set("language", "en")
    page.until("document.querySelector('[data-job=fill]').textContent === 'Temperature'")


def test_nothing_is_cut_off_at_the_side_of_a_telephone(page):
    page.driver.set_window_size(390, 900)
    page.until("window.innerWidth <= 500 && document.documentElement.scrollWidth <= window.innerWidth")
    page.driver.set_window_size(1280, 900)
    page.until("window.innerWidth > 1000 && document.documentElement.scrollWidth <= window.innerWidth")


def test_no_request_left_this_machine_and_nothing_was_refused(page):
    entries = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in entries if one["method"] == "Network.requestWillBeSent"]
    web = [url for url in asked if not url.startswith(("data:", "blob:", "chrome"))]
    assert {urlsplit(url).hostname for url in web} == {"127.0.0.1"}
    assert [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_words_are_there_in_every_language(page):
    from lacunar.web.app import STATIC

    words = json.loads((STATIC / "words.json").read_text(encoding="utf-8"))
    for key, said in words.items():
        assert len(said) == 4, key
        assert all(said), key
        assert len({text.count("{}") for text in said}) == 1, key
    used = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.*") if path.suffix in (".js", ".html"))
    named = set(re.findall(r"""\bt\("(\w+)\"""", used)) | set(re.findall(r'data-t(?:-title)?="(\w+)"', used))
    assert named <= set(words)
