"""Make the pictures of the README: `python -m tools.pictures RUN`, after `make demo`.

RUN is the directory of the run that the demo says. Needs Chromium and selenium.
"""

import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from experiment.runs.plotting import plot_runs
from experiment.runs.report import write_report

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SIZE = "--window-size=1000,1330"  # of the page, in pixels


def main() -> int:
    """Write both pictures. Returns the exit code."""
    run = Path(sys.argv[1])
    plot_runs([run], x="prune_ratio", y="test_accuracy", target=IMAGES / "accuracy_vs_sparsity.png")
    screenshot(write_report(run), IMAGES / "report.png")
    print(f"written: {IMAGES}")
    return 0


def screenshot(page: Path, target: Path) -> None:
    """What Chromium shows of a page."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", SIZE):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        browser.get(page.resolve().as_uri())
        browser.save_screenshot(str(target))
    finally:
        browser.quit()


if __name__ == "__main__":
    sys.exit(main())
