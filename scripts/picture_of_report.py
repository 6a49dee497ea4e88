"""The pictures of a report in the README: its first screen, light and dark.

    llm-distill run pipelines/arte.yaml
    python scripts/picture_of_report.py data/runs/arte/*/report.html

It needs chromium and chromedriver, and the packages of `pip install -e '.[dev]'`.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
from pathlib import Path

WIDTH, HEIGHT, SCALE = 1080, 925, 1.5  # CSS pixels, and how many pixels each of them has
COLOURS = 128
DOCS = Path(__file__).parents[1] / "docs"
NAMES = {"light": "report.png", "dark": "report-dark.png"}


def take(page: Path, folder: Path) -> list[Path]:
    """Write the pictures of a page.

    Args:
        page: A report.
        folder: Where they go.

    Returns:
        The files.
    """
    from PIL import Image
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("there is no chromium")
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    written = []
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for scheme, name in NAMES.items():
            wanted = {"name": "prefers-color-scheme", "value": scheme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wanted]})
            driver.get(page.resolve().as_uri())
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
            picture = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
            file = folder / name
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
            written.append(file)
    finally:
        driver.quit()
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take the README's pictures of a report.")
    parser.add_argument("page", type=Path, help="report.html of a run")
    parser.add_argument("--folder", type=Path, default=DOCS, help="where they go")
    given = parser.parse_args()
    for file in take(given.page, given.folder):
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
