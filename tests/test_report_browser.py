"""report.html in a browser: what is drawn, what choices do, and that nothing is fetched."""

import csv
import json
import shutil
import time
from pathlib import Path

import pytest
from made_up_runs import accuracy, made_up_layers, made_up_rows, made_up_run

from experiment.reporting.report.page import page

NASTY = '</script><script>document.title="taken"</script><!-- <b onload=alert(1)>'
METHODS = ("SiPP", "WT", NASTY)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
DESK = {"width": 1100, "height": 900, "deviceScaleFactor": 1, "mobile": False}

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="needs a browser: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two reports: of one run, and of that run and another one together."""
    folder = tmp_path_factory.mktemp("reports")
    rows = made_up_rows(methods=METHODS)
    rows.loc[2, "note"] = 'says "no", twice\nand more'
    failure = {
        "method": NASTY,
        "net_seed": 1,
        "repetition": 0,
        "step": 2,
        "task": "prune",
        "reason": NASTY,
        "num_given_up": 3,
    }
    one = made_up_run(
        rows,
        state="failed",
        failures=made_up_rows().head(1).assign(**failure),
        layers=made_up_layers(METHODS),
        environment={"python": "3"},
    )
    other = made_up_run(made_up_rows(num_nets=1), margin=0.01, label="other")
    (folder / "one.html").write_text(page([one], "one"))
    (folder / "two.html").write_text(page([one, other], "two"))
    return folder


@pytest.fixture(scope="module")
def driver(folder):
    """A browser without a network, for all tests of this file."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root may not have
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    downloads = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    yield driver
    driver.quit()


class Page:
    """A report that is open in the browser."""

    def __init__(self, driver, path: Path):
        self.driver = driver
        self.show(DESK)
        driver.get(path.as_uri())

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def show(self, screen: dict, scheme: str = "light", media: str = "") -> None:
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """All texts, of hidden elements too."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )

    def choose(self, selector: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.find(selector)).select_by_visible_text(text)

    def column(self, name: str) -> list[str]:
        """The cells of a column of the table of results."""
        index = self.texts("#rows thead th").index(name) + 1
        return self.texts(f"#rows tbody td:nth-child({index})")

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def focused(self, attribute: str) -> str:
        return self.run(f"return document.activeElement.{attribute}")

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def one(driver, folder):
    """The report of one run, which must leave no complaints on the console."""
    opened = Page(driver, folder / "one.html")
    opened.complaints()
    driver.refresh()
    yield opened
    assert opened.complaints() == []


@pytest.fixture
def two(driver, folder):
    """The joint report of two runs."""
    opened = Page(driver, folder / "two.html")
    yield opened
    assert opened.complaints() == []


def test_everything_is_there_and_names_stay_text(one):
    headings = [text for text in one.texts("h2") if text]
    assert headings == [
        "What has failed",
        "How far each method can go at commensurate accuracy",
        "Curves",
        "Share that is kept, by layer and step",
        "All results",
        "Time by phase",
        "Settings",
        "Environment",
    ]
    assert len(one.find_all("#chart .curve")) == len(METHODS)
    assert one.texts("#legend button")[: len(METHODS)] == list(METHODS)
    assert NASTY in one.column("method") and NASTY in one.texts("#summary tbody th")
    assert NASTY in one.texts("#failures .long")
    assert NASTY in one.texts("#layers-method option")
    assert one.driver.title.startswith("one: ")
    assert len(one.find_all("script")) == 2 and not one.find_all("b")


def test_nothing_is_fetched(one):
    one.driver.get_log("performance")
    one.driver.refresh()
    messages = [json.loads(entry["message"]) for entry in one.driver.get_log("performance")]
    addresses = [
        found["message"]["params"]["request"]["url"]
        for found in messages
        if found["message"]["method"] == "Network.requestWillBeSent"
    ]
    assert one.driver.current_url in addresses
    others = [url for url in addresses if url != one.driver.current_url]
    assert all(url.startswith("data:") for url in others)


def test_the_policy_stops_what_the_page_does_not_hold(driver, folder):
    opened = Page(driver, folder / "one.html")
    opened.run(
        """const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        fetch("http://localhost/").catch(() => {});"""
    )
    assert opened.driver.title != "taken"
    told = "\n".join(opened.complaints())
    assert "script-src" in told and "connect-src" in told


def test_pointing_at_a_point_tells_its_values(one):
    from selenium.webdriver import ActionChains

    point = one.find_all("#chart .curve:nth-of-type(2) .point")[0]
    one.run("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(one.driver, duration=0).move_to_element(point).perform()
    mean = 100 * (accuracy(1, 0, 1) + accuracy(1, 1, 1)) / 2
    told = one.find("#tip").text
    assert told.splitlines() == [
        "WT",
        f"test accuracy (%): {mean:.2f} ± {100 * 0.02 / 2**0.5:.2f}",
        "parameters removed (%): 50.00",
        "step 1, 2 nets",
    ]
    ActionChains(one.driver, duration=0).move_to_element(one.find("h1")).perform()
    assert not one.find("#tip").is_displayed()


def test_points_are_reached_by_keys(one):
    from selenium.webdriver import Keys

    one.run("document.querySelector('#legend button:last-child').focus()")
    one.press(Keys.TAB)
    label = "return document.activeElement.getAttribute('aria-label').split('\\n')"
    assert one.run(label)[0] == "SiPP" and one.run(label)[3] == "step 1, 2 nets"
    assert one.find("#tip").text == "\n".join(one.run(label))
    one.press(Keys.ARROW_RIGHT)
    assert one.run(label)[3] == "step 2, 2 nets"
    one.press(Keys.ARROW_DOWN)
    assert one.run(label)[0] == "WT" and one.run(label)[3] == "step 2, 2 nets"
    one.press(Keys.HOME, Keys.ARROW_LEFT)
    assert one.run(label)[0] == "SiPP" and one.run(label)[3] == "step 1, 2 nets"
    one.press(Keys.ESCAPE)
    assert not one.find("#tip").is_displayed()


def test_methods_are_switched_off_and_on(one):
    button = one.find_all("#legend button")[1]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    shown = [curve.get_attribute("aria-label") for curve in one.find_all("#chart .curve")]
    assert shown == ["SiPP", NASTY]
    button.click()
    assert len(one.find_all("#chart .curve")) == 3
    one.find_all("#legend .every")[1].click()
    assert one.texts("#chart text") == ["No curve is shown."]
    one.find_all("#legend .every")[0].click()
    assert len(one.find_all("#chart .curve")) == 3


def test_curves_differ_by_more_than_colour(one):
    looks = one.run(
        """return [...document.querySelectorAll("#chart .curve")].map(curve => [
        curve.querySelector(".line").getAttribute("stroke-dasharray"),
        curve.querySelector(".marker").getAttribute("d"),
        curve.style.getPropertyValue("--method")])"""
    )
    for kind in zip(*looks):
        assert len(set(kind)) == 3


def test_axes_change(one):
    places = "return [...document.querySelectorAll('#chart .curve:first-of-type .point')]" + (
        ".map(p => p.transform.baseVal[0].matrix.e)"
    )
    first, second, third = one.run(places)
    assert (second - first) / (third - second) == pytest.approx(3, rel=1e-3)  # 50, 80, 90
    one.choose("#x-axis", "parameters kept (%), logarithmic")
    first, second, third = one.run(places)
    assert (second - first) / (third - second) == pytest.approx(1.3219, rel=1e-3)  # log2(2.5)
    assert first < second < third
    one.choose("#x-axis", "FLOPs removed (%)")
    one.choose("#y-axis", "test accuracy, difference to the unpruned net (points)")
    point = one.find("#chart .point")
    assert point.get_attribute("aria-label").splitlines()[1:3] == [
        "test accuracy, difference to the unpruned net (points): -1.00 ± 0.00",
        "FLOPs removed (%): 25.00",
    ]
    for option in one.texts("#y-axis option"):
        one.choose("#y-axis", option)
        assert len(one.find_all("#chart .point")) == 9
        assert "NaN" not in one.run("return document.querySelector('#chart').outerHTML")


def test_bands_are_one_deviation_and_missing_for_single_nets(two):
    two.choose("#shown-run", "only")
    assert len(two.find_all("#chart .curve")) == 3 == len(two.find_all("#chart .band"))
    two.choose("#shown-run", "other")
    assert len(two.find_all("#chart .curve")) == 2
    assert not two.find_all("#chart .band")
    two.choose("#shown-run", "all")
    assert len(two.find_all("#chart .curve")) == 5
    assert "WT, other" in two.texts("#legend button")
    assert set(two.column("run")) == {"only", "other"}


def test_markers_are_hollow_where_a_mean_is_of_fewer_nets(driver, folder):
    rows = made_up_rows()
    last = rows[(rows["method"] == "WT") & (rows["step"] == 3) & (rows["net_seed"] == 1)]
    partial = made_up_run(rows.drop(last.index), state="running")
    (folder / "partial.html").write_text(page([partial], "partial"))
    opened = Page(driver, folder / "partial.html")
    [few] = opened.find_all("#chart .few .marker")
    fill, stroke = (few.value_of_css_property(name) for name in ("fill", "stroke"))
    whole = opened.find_all("#chart .point:not(.few) .marker")
    assert len(whole) == 5
    assert fill in {one.value_of_css_property("stroke") for one in whole}
    assert stroke in {one.value_of_css_property("fill") for one in whole}


def test_the_heat_map_shows_the_method_that_was_chosen(one):
    assert one.texts("#heat-map thead th") == ["layer", "step 1", "step 2", "step 3"]
    assert one.texts("#heat-map tbody th") == ["conv1", "fc"]
    assert one.texts("#heat-map td") == ["50.0%", "20.0%", "10.0%", "25.0%", "10.0%", "5.0%"]
    one.choose("#layers-method", NASTY)
    colours = [
        cell.value_of_css_property("background-color") for cell in one.find_all("#heat-map td")
    ]
    assert len(set(colours)) == 5  # as many as there are values


def test_sorting_sorts_and_says_so(one):
    def sort(name):
        one.find_all("#rows .sort")[one.texts("#rows thead th").index(name)].click()

    sort("test accuracy")
    values = [float(text) for text in one.column("test accuracy")]
    assert values == sorted(values) and len(values) == 20
    [sorted_by] = one.find_all("#rows th[aria-sort=ascending]")
    assert sorted_by.text == "test accuracy"
    sort("test accuracy")
    values = [float(text) for text in one.column("test accuracy")]
    assert values == sorted(values, reverse=True)
    assert one.find_all("#rows th[aria-sort=descending]")
    sort("note")
    assert one.column("note")[0].startswith("says") and one.column("note")[1] == ""


def test_filtering_filters(one):
    one.find("#filter").send_keys("sipp")
    assert one.column("method") == ["SiPP"] * 6
    assert one.find("#count").text == "6 of 20 rows"
    one.find("#filter").send_keys(" TWICE")
    assert one.column("note") == ['says "no", twice\nand more']
    one.find("#filter").send_keys(" nowhere")
    assert one.column("method") == [] and one.find("#count").text == "0 of 20 rows"


def test_what_is_saved_is_what_is_shown(one, folder):
    one.find("#all-columns").click()
    one.find_all("#rows .sort")[one.texts("#rows thead th").index("test loss")].click()
    one.find("#filter").send_keys("SiPP")
    shown = one.column("test loss")
    one.find("#save").click()
    path = folder / "results.csv"
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    path.unlink()
    assert names == list(made_up_rows().columns)
    assert [f"{float(row[names.index('test_loss')]):.4g}" for row in rows] == shown
    assert {row[names.index("method")] for row in rows} == {"SiPP"} and len(rows) == 6
    notes = [row[names.index("note")] for row in rows]
    assert 'says "no", twice\nand more' in notes
    assert {row[names.index("retrained")] for row in rows} == {"True"}


def test_keys_alone_reach_everything(one):
    from selenium.webdriver import Keys

    one.press(Keys.TAB)
    assert one.focused("className") == "skip" and one.driver.switch_to.active_element.is_displayed()
    reached = []
    for _ in range(60):
        one.press(Keys.TAB)
        reached.append(one.focused("id") or one.focused("textContent"))
        if one.focused("tagName") == "BODY":
            break
    for id_or_text in ("x-axis", "y-axis", "layers-method", "filter", "all-columns", "save"):
        assert id_or_text in reached
    assert {*METHODS, "show all", "hide all", "test accuracy", "Settings"} <= set(reached)
    one.run("document.querySelectorAll('#legend button')[0].focus()")
    one.press(Keys.SPACE)
    assert one.focused("textContent") == "SiPP"  # the button keeps the focus
    assert len(one.find_all("#chart .curve")) == 2


def test_what_people_use_has_names_and_ids_are_unique(two):
    nameless = """return [...document.querySelectorAll("button, select, input, progress, summary")]
        .filter(e => !(e.textContent.trim() && e.tagName !== "SELECT")
            && !e.closest("label") && !e.getAttribute("aria-label")).map(e => e.outerHTML)"""
    twice = """const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
        return ids.filter((id, index) => ids.indexOf(id) !== index)"""
    dangling = """return [...document.querySelectorAll("[aria-labelledby]")]
        .filter(e => !document.getElementById(e.getAttribute("aria-labelledby")))
        .map(e => e.outerHTML)"""
    for script in (nameless, twice, dangling):
        assert two.run(script) == []
    assert two.run("return document.documentElement.lang") == "en"
    assert len(two.find_all("h1")) == 1 == len(two.find_all("main"))


CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function colour(text) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
function light(text) {
  const [r, g, b] = colour(text).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  while (element && !colour(getComputedStyle(element).backgroundColor)[3])
    element = element.parentElement;
  return light(element ? getComputedStyle(element).backgroundColor : "white");
}
const found = [];
for (const element of document.querySelectorAll("body *:not(script, style, svg, svg *)")) {
  const hasText = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!hasText || !element.checkVisibility()) continue;
  const pair = [light(getComputedStyle(element).color), behind(element)].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) found.push([ratio, element.outerHTML.slice(0, 80)]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(driver, folder, scheme):
    for name in ("one.html", "two.html"):
        opened = Page(driver, folder / name)
        opened.show(DESK, scheme)
        opened.run("document.querySelectorAll('details').forEach(e => { e.open = true })")
        background = opened.find("body").value_of_css_property("background-color")
        assert ("255, 255, 255" in background) == (scheme == "light")
        assert opened.run(CONTRASTS) == []


def test_a_phone_does_not_scroll_sideways(driver, folder):
    for name in ("one.html", "two.html"):
        opened = Page(driver, folder / name)
        opened.show(PHONE)
        driver.refresh()
        opened.run("document.querySelectorAll('details').forEach(e => { e.open = true })")
        opened.find("#all-columns").click()
        assert opened.run("return document.documentElement.scrollWidth") <= PHONE["width"]
        assert opened.find("#chart").size["width"] <= PHONE["width"]


def test_paper_has_no_controls_and_all_rows(one):
    one.show(DESK, "dark", "print")
    assert not one.find("#filter").is_displayed() and not one.find("#save").is_displayed()
    assert one.find("#chart").is_displayed()
    assert one.find("body").value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert one.find("#results .scroll").value_of_css_property("overflow-y") == "visible"
    assert one.driver.execute_cdp_cmd("Page.printToPDF", {})["data"].startswith("JVBERi0")
