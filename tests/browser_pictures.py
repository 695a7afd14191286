"""Take the pictures of docs/browser.md.

    python tests/browser_pictures.py -o docs            # Debian: apt-get install chromium chromium-driver

Every job is run on the demo inputs, or on made-up ones, by the models that are shipped.
"""

import argparse
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from selenium.webdriver import ActionChains

from web_inputs import write_inputs
from web_page import Page, chromium, serving

NARROW, HIGH, GAP = 390, 1300, 20  # pixels
COLOURS = 256


def main() -> None:
    """Run the jobs and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        shown, state, profile, downloads = (Path(name) / part for part in ("shown", "state", "profile", "downloads"))
        for folder in (shown, state, profile, downloads):
            folder.mkdir()
        write_inputs(shown)
        with serving(shown, state) as address, chromium(profile, downloads) as driver:
            page, narrow = Page(driver, address), []
            for job in (temperature, water, picture):
                job(page)
                save(taken(page), options.output / f"browser-{job.__name__}.png")
                narrow.append(taken_narrow(page))
            for job in (suspects, change):
                job(page)
                save(taken(page), options.output / f"browser-{job.__name__}.png")
    beside = Image.new("RGB", (len(narrow) * (NARROW + GAP) - GAP, HIGH), "white")
    for number, one in enumerate(narrow):
        beside.paste(one, (number * (NARROW + GAP), 0))
    save(beside, options.output / "browser-narrow.png")


def temperature(page: Page) -> None:
    """Fill the demo's scene, half of it under the swipe."""
    page.open_demo("temperature", "simulated")
    page.run()
    page.ended()
    page.click("#swipe-button")
    page.hover(150, 0)


def water(page: Page) -> None:
    """Map the water of the same scene."""
    page.open_demo("temperature", "simulated")
    page.click("[data-job=water]")
    page.run()
    page.ended()
    page.until("document.querySelectorAll('#lakes tbody tr').length > 0")
    page.hover(-100, 130)


def picture(page: Page) -> None:
    """Fill the demo's face four times."""
    page.open_demo("picture", "astronaut")
    page.set("option-content", "face")
    page.set("option-samples", "4")
    page.run()
    page.ended()
    page.until("[...document.querySelectorAll('.strip img')].filter(one => one.naturalWidth > 0).length >= 4")


def suspects(page: Page) -> None:
    """Accept one of two places that look like cloud."""
    page.open_file("cold.tif")
    page.click("#find-suspects")
    page.until("document.querySelectorAll('#suspects tbody tr').length === 2")
    page.click("#suspects tbody tr:first-child button")
    page.until("document.querySelector('#suspects tbody tr:first-child button').ariaPressed === 'true'")
    page.until("[...document.querySelectorAll('.leaflet-suspect-pane canvas')].some(one => one.planes)")


def change(page: Page) -> None:
    """Compare two dates of a lake."""
    page.open_file("lake_2023-05-01.tif")
    page.compare_with("lake_2019-05-01.tif")
    page.run()
    page.ended()
    page.until("document.querySelectorAll('#dates tbody tr').length === 2")
    page.until("[...document.querySelectorAll('.leaflet-after-pane canvas')].some(one => one.planes)")
    page.hover(0, 0)


def taken(page: Page) -> Image.Image:
    """What the window shows, the steps scrolled to their end."""
    page.driver.execute_script("const steps = document.querySelector('aside'); steps.scrollTop = steps.scrollHeight")
    ActionChains(page.driver).pause(1).perform()  # tiles fade in
    return Image.open(BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")


def taken_narrow(page: Page) -> Image.Image:
    """What a telephone shows."""
    metrics = {"width": NARROW, "height": HIGH, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.until(f"window.innerWidth === {NARROW}")
    image = taken(page)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.until("window.innerWidth > 1000")
    return image


def save(image: Image.Image, file: Path) -> None:
    """Save a picture in few colours."""
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
