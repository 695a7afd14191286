"""The page in a headless Chromium, as a person uses it."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en"),
)
WITHIN = 240.0  # seconds that a machine that is busy may take


@contextmanager
def serving(root: Path, state: Path) -> Iterator[str]:
    """The address that `lacunar serve` prints."""
    command = [sys.executable, "-m", "lacunar", "serve", "--port", "0", "--state", str(state), "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http://\S+", server.stdout.readline())[0]
        finally:
            server.terminate()


@contextmanager
def chromium(profile: Path, downloads: Path) -> Iterator[webdriver.Chrome]:
    """A browser of 1280 x 900 pixels."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
        options.add_argument(flag)
    prefs = {
        "download.default_directory": str(downloads),
        "profile.default_content_setting_values.automatic_downloads": 1,  # else the second waits for a person's yes
    }
    options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.downloads = downloads
    driver.set_page_load_timeout(WITHIN)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page as a person uses it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        self.until("document.querySelector('[data-demo]').textContent !== ''")

    def ended(self):
        """Wait until the newest job is done and shown."""
        state = "document.querySelector('#jobs li')?.dataset.state"
        self.until(f"['done', 'failed'].includes({state})")
        assert self.driver.execute_script(f"return {state}") == "done", self.text("jobs")

    def until(self, script, within=WITHIN):
        last = time.monotonic() + within
        while not self.driver.execute_script(f"return {script}"):
            assert time.monotonic() < last, f"{script} is not so: {self.text('message')}"
            time.sleep(0.1)

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0]).textContent", name)

    def click(self, selector):
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def set(self, name, value, event="change"):
        element = self.driver.find_element(By.ID, name)
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event(arguments[2]))"
        self.driver.execute_script(script, element, value, event)

    def open_demo(self, name, shown):
        before = self.driver.execute_script("return document.getElementById('rasters').value")
        self.click(f"[data-demo={name}]")
        self.until(f"document.getElementById('rasters').value !== '{before}'")
        self.until(f"document.getElementById('rasters').selectedOptions[0]?.textContent.includes('{shown}')")
        self.until("document.querySelectorAll('#jobs li').length === 0")
        self.until("[...document.querySelectorAll('canvas.leaflet-tile')].some(one => one.planes)")

    def open_file(self, name):
        before = self.driver.execute_script("return document.getElementById('rasters').value")
        there = f"[...document.querySelectorAll('#files button')].find(one => one.textContent === '{name}')"
        self.until(f"{there} !== undefined")
        self.driver.execute_script(f"{there}.click()")
        self.until(f"document.getElementById('rasters').value !== '{before}'")
        self.until(f"document.getElementById('rasters').selectedOptions[0]?.textContent === '{name}'")
        self.until("[...document.querySelectorAll('canvas.leaflet-tile')].some(one => one.planes)")

    def drag(self, *steps):
        chain = ActionChains(self.driver).move_to_element_with_offset(self.map, *steps[0]).click_and_hold()
        for step in steps[1:]:
            chain = chain.move_by_offset(*step)
        chain.release().perform()

    def hover(self, x, y):
        ActionChains(self.driver).move_to_element_with_offset(self.map, x, y).perform()
        self.until("document.getElementById('hover').textContent !== ''")
        return self.text("hover")

    def run(self):
        before = self.driver.execute_script("return document.querySelectorAll('#jobs li').length")
        self.click("#run")
        self.until(f"document.querySelectorAll('#jobs li').length > {before}")

    @property
    def map(self):
        return self.driver.find_element(By.ID, "map")

    def compare_with(self, name):
        """Drop a date of the list of files onto the options."""
        self.driver.execute_script(
            "const data = new DataTransfer(); data.setData('application/x-lacunar', arguments[0]);"
            "document.getElementById('references').dispatchEvent(new DragEvent('drop', {dataTransfer: data}))",
            name,
        )
        self.until("document.querySelectorAll('#reference-list input:checked').length === 1")

    def downloaded(self, name):
        self.click(f"#downloads a[download='{name}']")
        path = self.driver.downloads / name
        last = time.monotonic() + WITHIN
        while not path.is_file():
            assert time.monotonic() < last, f"{name} is not there"
            time.sleep(0.1)
        return path
