"""The page `report.html`: what is in the file, and how it behaves in a headless Chromium."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from smc_jax.errors import InputError
from smc_jax.losses import wavelet
from smc_jax.report import viewer
from smc_jax.report.comparison import Comparison
from smc_jax.report.scene import Scene

EVIL_METHOD = "<img src=x onerror=document.title='owned'>"
EVIL_PAIR = "</script><script>document.title='owned'</script>\"'&amp;"
METHODS = ["Good", "Poor", EVIL_METHOD]
PAIRS = ["one", "two", EVIL_PAIR, "constructor"]
METRICS = ["EN", "SD", "Nabf"]
SIZE = (33, 47)  # odd, so that the last row and column have no partner

SCORES = {
    "Good": {"EN": 7.0, "SD": 40.0, "Nabf": 0.01},
    "Poor": {"EN": 5.0, "SD": 50.0, "Nabf": 0.3},
    EVIL_METHOD: {"EN": 6.0, "Nabf": 0.02},
}


def comparison():
    scores = {
        m: {p: {k: v + i / 8 for k, v in SCORES[m].items()} for i, p in enumerate(PAIRS[:3])}
        for m in METHODS
    }
    del scores["Poor"]["two"]
    return Comparison(
        scores=scores,
        metrics=METRICS,
        means=SCORES,
        intervals={m: {k: (v - 0.005, v + 0.005) for k, v in SCORES[m].items()} for m in METHODS},
        complete=METHODS,
        places={"Good": {"EN": 1, "SD": 2, "Nabf": 1}, "Poor": {"SD": 1}, EVIL_METHOD: {"EN": 2}},
        ranks={"Good": 1.5, "Poor": 2.5, EVIL_METHOD: 2.0},
        p_values={},
    )


def scenes():
    """The last pair has images, but no scores."""
    for seed, name in enumerate(PAIRS):
        rng = np.random.default_rng(seed)
        results = {m: rng.integers(0, 256, SIZE, np.uint8) for m in ("Poor", "Good", EVIL_METHOD)}
        if name == "two":
            del results["Poor"]
        color = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        sources = {"a": rng.integers(0, 256, SIZE, np.uint8), "b": color, "Good": color[::-1]}
        yield Scene(name, sources, results)


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of the scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1][1] += data


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    viewer.write(path, comparison(), scenes())
    return path


@pytest.fixture(scope="module")
def parsed(path):
    return Parsed(path.read_text())


def decoded(url):
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", url).groups()
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format.lower() == kind
        return np.asarray(image)


def test_images_are_embedded_without_loss(parsed):
    blocks = [(a["data-scene"], json.loads(t)) for a, t in parsed.scripts if "data-scene" in a]
    assert [name for name, _ in blocks] == PAIRS
    for scene, (_, block) in zip(scenes(), blocks, strict=True):
        assert (block["height"], block["width"]) == SIZE
        stored = {(i["kind"], i["label"]): decoded(i["src"]) for i in block["images"]}
        given = {("source", k): v for k, v in scene.sources.items()}
        given |= {("result", k): v for k, v in scene.results.items()}
        assert stored.keys() == given.keys()
        for key, image in given.items():
            expected = image if image.ndim == 3 else np.stack([image] * 3, -1)
            np.testing.assert_array_equal(stored[key], expected)


def test_ground_truth_is_no_source(tmp_path):
    image = np.zeros((4, 5), np.uint8)
    scene = Scene("one", dict.fromkeys(("a", "b", "truth"), image), {"truth": image})
    viewer.write(tmp_path / "report.html", comparison(), [scene])
    scripts = Parsed((tmp_path / "report.html").read_text()).scripts
    (block,) = (json.loads(t) for a, t in scripts if "data-scene" in a)
    kinds = [(i["kind"], i["label"]) for i in block["images"]]
    wanted = [("source", "a"), ("source", "b"), ("truth", "truth"), ("result", "truth")]
    assert kinds == wanted


def test_images_too_large_for_webp_are_png():
    image = np.arange(20000, dtype=np.uint16).astype(np.uint8)[None]
    np.testing.assert_array_equal(decoded(viewer._data_url(image)), image)


def test_nothing_is_loaded_from_outside(path, parsed):
    text = path.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\(", text)
    for tag, attributes in parsed.tags:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form"), tag
        assert "src" not in attributes
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag in ("link", "a"):
            assert attributes["href"] in ("data:,", "#viewer")
    (policy,) = (a["content"] for _, a in parsed.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_names_are_text_and_not_markup(path, parsed):
    text = path.read_text()
    assert EVIL_METHOD not in text
    assert EVIL_PAIR not in text
    code = [a for a, _ in parsed.scripts if a.get("type") != "application/json"]
    assert code == [{}]
    summary = json.loads(next(t for a, t in parsed.scripts if a.get("id") == "summary"))
    assert summary["methods"] == ["Good", EVIL_METHOD, "Poor"]
    assert summary["pairs"] == PAIRS[:3]


def test_table_without_javascript(path):
    text = path.read_text()
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", text)
    assert [row[:3] for row in rows] == ["Goo", "&lt", "Poo"]  # by mean rank
    assert "<b>7.000</b>" in rows[0]
    assert "<u>40.00</u>" in rows[0]
    assert 'title="95 % interval: 6.995 to 7.005"' in rows[0]
    assert "undefined" in rows[1]
    assert "<noscript>" in text


def test_undefined_and_negative_scores(tmp_path):
    odd = comparison()._replace(means={**SCORES, "Poor": {"SD": 9.0, "Nabf": -0.5}})
    del odd.scores["Good"]["two"]["SD"]
    viewer.write(tmp_path / "report.html", odd, [])
    text = (tmp_path / "report.html").read_text()
    poor = next(r for r in re.findall(r"<tr>.*?</tr>", text) if '"row">Poor' in r)
    assert poor.count("undefined") == 1
    assert ">−0.500<" in poor  # noqa: RUF001
    summary = json.loads(next(t for a, t in Parsed(text).scripts if a.get("id") == "summary"))
    assert summary["scores"][0][:2] == [[7.0, 40.0, 0.01], [7.125, None, 0.135]]


def test_scenes_are_written_one_at_a_time(tmp_path):
    """When the next scene is asked for, those before it are already in the temporary file."""
    sizes = []

    def watched():
        for scene in scenes():
            (temporary,) = tmp_path.iterdir()
            sizes.append(temporary.stat().st_size)
            noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
            yield scene._replace(results={"Good": noise}, sources={})

    viewer.write(tmp_path / "report.html", comparison(), watched())
    assert np.diff(sizes).min() > 100_000
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o644


def test_failed_write_leaves_what_was_there(tmp_path):
    def failing():
        yield next(scenes())
        raise RuntimeError("no more")

    (tmp_path / "report.html").write_text("before")
    with pytest.raises(RuntimeError, match="no more"):
        viewer.write(tmp_path / "report.html", comparison(), failing())
    assert (tmp_path / "report.html").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="cannot be written"):
        viewer.write(tmp_path / "report.html" / "below", comparison(), [])


# In a browser.


def _missing():
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install selenium)"
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"{' and '.join(lacking)} not installed (Debian: chromium-driver)" if lacking else ""


in_browser = pytest.mark.skipif(bool(_missing()), reason=_missing() or "all is there")
DESKTOP, PHONE = (1280, 900), (390, 844)


class Browser:
    """A page in Chromium, with shorthands to inspect it."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    def open(self, place="", size=DESKTOP, **media):
        """Reloads the page; `media` are media features, such as `prefers_color_scheme="dark"`."""
        phone = size == PHONE
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": phone}
        self.command("Emulation.setDeviceMetricsOverride", metrics)
        self.command("Emulation.setTouchEmulationEnabled", {"enabled": phone, "maxTouchPoints": 2})
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        self.command("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{place}")
        self.settle()
        return self

    def command(self, name, parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def settle(self):
        self.until("return !document.querySelector('#stage[aria-busy]') && stage.panes.length >= 0")

    def until(self, script):
        deadline = time.monotonic() + 10
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.run(script, selector)

    def press(self, *keys):
        for key in keys:
            self.actions().send_keys(key).perform()
            self.settle()

    def actions(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=20)

    def show(self, selector):
        """Scrolls to a node and waits: right after scrolling the page ignores the wheel."""
        node = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", node)
        time.sleep(0.35)
        return node

    def transforms(self):
        script = "return [...document.querySelectorAll('.picture')].map(p => p.style.transform)"
        return self.run(script)

    def pixels(self, index=0):
        """The pixels of a canvas on the stage, "h w 4"."""
        width, height, data = self.run(
            "const c = document.querySelectorAll('#stage canvas')[arguments[0]];"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return [c.width, c.height, [...d]]",
            index,
        )
        return np.array(data, np.uint8).reshape(height, width, 4)

    def place(self):
        self.run("return new Promise(done => setTimeout(done, 260))")
        return dict(p.split("=", 1) for p in self.run("return location.hash.slice(1)").split("&"))


@pytest.fixture(scope="module")
def browser(path, tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
        --disable-background-networking --disable-component-update --disable-sync"""
    for flag in (*flags.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options, service)
    try:
        driver.get("about:blank")
        yield Browser(driver, path.as_uri())
    finally:
        driver.quit()


@pytest.fixture
def page(browser):
    """The page; afterwards, checks that nothing was logged, and nothing requested from outside."""
    for log in ("browser", "performance"):
        browser.driver.get_log(log)
    yield browser
    assert browser.driver.get_log("browser") == []
    assert browser.driver.title == "Image fusion report"
    for entry in browser.driver.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            assert url.startswith(("data:", "about:", "chrome:", "file:")), url
            assert not url.startswith("file:") or url.split("#")[0].endswith("/report.html")
    assert browser.run(
        "return performance.getEntriesByType('resource').every(e => e.name.startsWith('data:'))"
    )


@in_browser
def test_sorting(page):
    page.open()
    names = "#scores tbody th"
    assert page.texts(names) == ["Good", EVIL_METHOD, "Poor"]
    buttons = page.all("#scores thead button")
    buttons[3].click()  # SD, which is undefined for one method
    assert page.texts(names) == ["Poor", "Good", EVIL_METHOD]
    assert page.all("#scores thead th")[3].get_attribute("aria-sort") == "descending"
    assert page.all("#scores thead th")[1].get_attribute("aria-sort") is None
    buttons[3].send_keys("\n")
    assert page.texts(names) == ["Good", "Poor", EVIL_METHOD]
    assert page.texts("#status") == ["Sorted by SD, ascending"]
    buttons[4].click()  # lower is better
    assert page.texts(names) == ["Good", EVIL_METHOD, "Poor"]
    buttons[0].click()
    assert page.texts(names)[1:] == ["Good", "Poor"]


@in_browser
def test_intervals_are_shown_on_demand(page):
    page.open()
    assert not page.one("#scores small").is_displayed()
    page.one("#intervals").click()
    assert page.one("#scores small").text == "6.995 to 7.005"


@in_browser
def test_names_are_shown_as_they_are(page):
    page.open()
    page.one("#choose").click()
    assert PAIRS[2] in page.texts("#list .name")
    page.one("#list li:nth-child(3) button").click()
    page.settle()
    assert page.one("#pair-name").text == PAIRS[2]
    assert page.texts("#stage figcaption button")[4] == f"{EVIL_METHOD}, show alone"
    assert page.run("return [...document.images].every(i => i.matches('#stage .picture'))")
    assert page.run("return document.scripts.length") == 2 + len(PAIRS)


@in_browser
def test_keys(page):
    page.open()
    names = [page.one("#pair-name").text]
    for key in ("j", "\ue014", "j", "j", "k", "\ue012"):  # arrows right and left
        page.press(key)
        names.append(page.one("#pair-name").text)
    order = [0, 1, 2, 3, 0, 3, 2]
    assert names == [PAIRS[i] for i in order]
    for key, view in zip("12345", ("grid", "slider", "single", "difference", "bands"), strict=True):
        page.press(key)
        assert page.one("#stage").get_attribute("class") == view
    page.press("3")
    first = page.run("return state.first")
    page.press("x")
    assert page.run("return [state.first, state.second]") == ["source.a", first]
    page.press(".")
    assert page.run("return state.first") == "source.b"
    page.press(",", ",")
    assert page.run("return state.first") != "source.a"
    page.press("+", "+")
    assert page.one("#zoom").text == "2.3×"  # noqa: RUF001
    page.press("0")
    assert page.one("#zoom").text == "1×"  # noqa: RUF001
    page.press("?")
    assert page.one("#help").is_displayed()
    pair = page.one("#pair-name").text
    page.one("#shortcuts").click()
    page.press("\ue00c", "j")  # escape
    assert page.one("#pair-name").text == pair
    page.one("#help-open").click()
    page.one("#shortcuts").click()
    page.press("\ue00c", "j")
    assert page.one("#pair-name").text != pair


@in_browser
def test_typing_is_no_command(page):
    page.open()
    page.press("/")
    page.press("t", "w", "o")
    assert page.texts("#list .name") == ["two"]
    assert page.texts("#list .score") == ["7.125"]
    page.press("\n")
    assert page.one("#pair-name").text == "two"
    page.press("4")
    page.one("#gain").send_keys("\ue014")
    page.settle()
    assert page.texts("#gain-text") == ["5×"]  # noqa: RUF001
    assert page.one("#pair-name").text == "two"


@in_browser
def test_pairs_in_the_order_of_a_score(page):
    page.open()
    page.press("/")
    page.run("document.getElementById('list-metric').value = 2; chooser.order.value = 'worst'")
    page.run("chooser.fill()")
    assert page.texts("#list .name") == [PAIRS[2], "two", "one", "constructor"]
    assert page.texts("#list .score") == ["0.260", "0.135", "0.010", "–"]  # noqa: RUF001
    assert page.texts("#list .muted")[0] == "best: Good 0.260"
    page.press("\ue015", "\ue015", "\n")  # down, down: the second
    assert page.one("#pair-name").text == "two"


@in_browser
def test_slider(page):
    page.open("pair=one&view=slider&first=result.Good&second=source.a")
    handle = page.show(".handle")
    assert handle.aria_role == "slider"
    assert handle.get_attribute("aria-valuenow") == "50"
    assert "Good" in handle.accessible_name
    handle.send_keys("\ue014", "\ue014", "\ue012", "\ue00e")  # right, right, left, page up
    assert handle.get_attribute("aria-valuenow") == "61"
    assert page.one("#pair-name").text == "one"
    clip = "return getComputedStyle(document.querySelectorAll('.layer')[1]).clipPath"
    assert page.run(clip) == "inset(0px 0px 0px 61%)"
    handle.send_keys("\ue010")
    assert handle.get_attribute("aria-valuenow") == "100"
    handle.send_keys("\ue011")
    pane = page.one(".pane").rect
    quarter = round(pane["width"] / 4)
    page.actions().move_to_element(page.one(".pane")).click_and_hold().move_by_offset(
        quarter, 10
    ).release().perform()
    assert abs(int(handle.get_attribute("aria-valuenow")) - 75) <= 1
    # When zoomed, the handle still moves, and dragging anywhere else pans.
    page.press("+", "+")
    before = page.transforms()
    page.actions().move_to_element_with_offset(
        page.one(".pane"), -quarter, 0
    ).click_and_hold().move_by_offset(40, 20).release().perform()
    assert abs(int(handle.get_attribute("aria-valuenow")) - 75) <= 1
    assert page.transforms() != before
    page.actions().move_to_element(handle).click_and_hold().move_by_offset(
        -quarter, 0
    ).release().perform()
    assert abs(int(handle.get_attribute("aria-valuenow")) - 50) <= 1


@in_browser
def test_panes_zoom_and_pan_together(page):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    page.open("pair=one&view=grid")
    pane = page.show(".pane")
    assert len(set(page.transforms())) == 1
    assert len(page.transforms()) == 6
    origin = ScrollOrigin.from_element(pane, 30, 20)
    page.run("addEventListener('wheel', e => window.mouse = e, true)")
    start = page.run("return stage.geometry(stage.panes[0])")
    page.actions().scroll_from_origin(origin, 0, -700).perform()
    zoomed = page.transforms()
    assert len(set(zoomed)) == 1
    assert page.run("return stage.camera.zoom") == pytest.approx(np.exp(1.4))
    # The pixel under the mouse stays where it is.
    at = page.run(
        "const r = stage.panes[0].getBoundingClientRect();"
        "return {x: window.mouse.clientX - r.x, y: window.mouse.clientY - r.y}"
    )
    end = page.run("return stage.geometry(stage.panes[0])")
    for axis, side in (("x", "width"), ("y", "height")):
        before, after = ((at[axis] - g[axis]) / g[side] for g in (start, end))
        assert after == pytest.approx(before, abs=1e-6)
    page.actions().move_to_element(pane).click_and_hold().move_by_offset(25, 15).release().perform()
    panned = page.transforms()
    assert len(set(panned)) == 1
    shift = np.subtract(
        *[[float(n) for n in re.findall(r"-?[\d.]+", t[0])][:2] for t in (panned, zoomed)]
    )
    np.testing.assert_allclose(shift, (25, 15), atol=0.01)
    page.press("+", "+", "+")
    assert page.run("return !!document.querySelector('.pixelated')")
    before = page.run("return stage.camera.x")
    page.actions().key_down("\ue008").send_keys("\ue014").key_up("\ue008").perform()
    assert page.run("return stage.camera.x") > before
    assert page.one("#pair-name").text == "one"
    page.press("0")
    assert page.run("return stage.camera") == {"zoom": 1, "x": 0.5, "y": 0.5}


@in_browser
def test_pinch(page):
    page.open("pair=one&view=single", PHONE)
    page.show(".pane")
    box = page.run(
        "const r = document.querySelector('.pane').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2]"
    )
    for kind, spread in (("Start", 20), ("Move", 30), ("Move", 40), ("End", None)):
        points = (
            []
            if spread is None
            else [
                {"x": box[0] - spread, "y": box[1], "id": 0},
                {"x": box[0] + spread, "y": box[1], "id": 1},
            ]
        )
        page.command("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    assert page.run("return stage.camera.zoom") == pytest.approx(2, abs=0.05)


def picture(name, kind, label):
    """A scene's image as three channels of integers."""
    scene = next(s for s in scenes() if s.name == name)
    image = getattr(scene, f"{kind}s")[label].astype(int)
    return image if image.ndim == 3 else np.stack([image] * 3, -1)


@in_browser
@pytest.mark.parametrize("second", ["source.a", "source.b", "source.Good", "result.Poor"])
def test_difference(page, second):
    page.open(f"pair=one&view=difference&first=result.Good&second={second}&gain=3")
    difference = abs(picture("one", "result", "Good") - picture("one", *second.split(".")))
    shown = page.pixels()
    np.testing.assert_array_equal(shown[..., :3], np.minimum(3 * difference, 255))
    assert (shown[..., 3] == 255).all()
    note = f"mean {difference.mean():.2f}, largest {difference.max()}"
    assert note in page.one("figcaption").text


@in_browser
@pytest.mark.parametrize("image", ["source.b", "result.Good"])
def test_bands(page, image):
    page.open(f"pair=one&view=bands&first={image}&gain=2")
    y = picture("one", *image.split(".")) @ [0.299, 0.587, 0.114]
    y = np.pad(y, ((0, 1), (0, 1)), "edge")
    a, b, c, d = y[::2, ::2], y[::2, 1::2], y[1::2, ::2], y[1::2, 1::2]
    bands = [(a + b + c + d) / 4, (b - a + d - c) / 2, (c - a + d - b) / 2, d - c - b + a]
    assert [text[:2] for text in page.texts("figcaption")] == ["LL", "LH", "HL", "HH"]
    for index, band in enumerate(bands):
        expected = np.clip(band if index == 0 else 128 + band, 0, 255)
        shown = page.pixels(index)
        assert (shown[..., 0] == shown[..., 1]).all()
        np.testing.assert_allclose(shown[..., 0], expected, atol=0.501)


@in_browser
def test_bands_are_those_of_the_loss(page):
    page.open("pair=one&view=bands&first=result.Good")
    computed = page.run(
        "return stage && store.cache.get('one').pictures.get('result.Good').pixels().then(p => {"
        "const b = haar(p); return ['LL', 'LH', 'HL', 'HH'].map(n => [...b[n]])})"
    )
    image = picture("one", "result", "Good")[None, ..., :1]
    low, high = wavelet.lift_image(jnp.asarray(image, jnp.float32))
    expected = np.concatenate([low, high], -1)[0]
    shown = np.moveaxis(np.reshape(computed, (4, *expected.shape[:2])), 0, -1)
    np.testing.assert_allclose(shown, expected, atol=1e-3)


@in_browser
def test_place_is_kept_in_the_address(page):
    page.open("pair=two&view=slider&first=result.Good&second=source.b&split=25&zoom=3&x=0.4&y=0.6")
    assert page.one("#pair-name").text == "two"
    assert page.one(".handle").get_attribute("aria-valuenow") == "25"
    assert page.one("#zoom").text == "3×"  # noqa: RUF001
    page.press("j", "x", "4")
    place = page.place()
    assert place["first"] == "source.b"
    assert place["zoom"] == "3.0000"
    state = page.run("return {...state}")
    shown = page.pixels()
    page.open(page.run("return location.hash.slice(1)"))
    assert page.run("return {...state}") == state
    np.testing.assert_array_equal(page.pixels(), shown)
    page.run("location.hash = 'pair=one&view=single&first=result.Poor'")
    page.until("return document.querySelector('figcaption').textContent.startsWith('Poor')")


@in_browser
def test_addresses_that_make_no_sense(page):
    page.open("pair=none&view=x&gain=99&zoom=a&x=b&first=result.none&split=-1")
    assert "no images of this pair" in page.one("#stage").text
    page.press("2")
    page.press("j")
    assert "none has no image of this pair" in page.one("#stage").text


@in_browser
def test_method_that_failed_on_a_pair(page):
    page.open("pair=two&view=single&first=result.Poor")
    assert "Poor has no image of this pair" in page.one("#stage").text
    assert page.run("return document.querySelector('#first option:checked').disabled")
    assert "undefined" in page.texts("#pair-scores tbody tr")[2]
    page.press("k")
    assert page.one("#stage figcaption").text.startswith("Poor")
    page.press("1")
    assert len(page.all(".pane")) == 6


@in_browser
def test_scores_of_a_pair(page):
    page.open("pair=one")
    rows = page.all("#pair-scores tbody tr")
    assert rows[0].find_element("css selector", "b").text == "7.000"
    assert [u.text for u in page.all("#pair-scores tbody u")] == ["40.00", "6.000", "0.020"]
    page.all("#pair-scores thead button")[2].click()
    assert page.texts("#pair-scores tbody th") == ["Poor", "Good", EVIL_METHOD]
    page.press("k", "k")  # the order and the focus stay
    assert page.texts("#pair-scores tbody th")[0] == "Poor"
    assert page.run("return document.activeElement.textContent").startswith("SD")
    page.all("#pair-scores tbody button")[0].click()
    page.settle()
    assert page.one("#stage figcaption").text.startswith("Poor")


@in_browser
def test_images_are_decoded_when_they_are_shown(page):
    page.open()
    assert page.run("return document.images.length") == 6
    assert page.run("return store.cache.size") == 1
    page.press("j", "j", "j", "j", "j", "j")
    assert page.run("return document.images.length") == 6
    assert page.run("return store.cache.size") <= 4


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (color) => {
  const [r, g, b] = rgb(color).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (rgb(color)[3] === 255) return color;
  }
  throw new Error("nothing behind");
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || node.closest("script, noscript, .vh, .skip")) continue;
  if (!node.checkVisibility()) continue;
  const pair = [getComputedStyle(node).color, behind(node)].map(luminance).sort((a, b) => b - a);
  found.push([(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent.slice(0, 40)]);
}
return found;
"""


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page, scheme):
    page.open("view=difference", prefers_color_scheme=scheme)
    back = page.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (int(re.search(r"\d+", back)[0]) < 128) == (scheme == "dark")
    for opener in (None, "#choose", "#help-open"):
        if opener:
            page.one(opener).click()
        found = page.run(CONTRAST)
        assert len(found) > 60
        assert min(found)[0] >= 4.5, min(found)
        if opener:
            page.press("\ue00c")


@in_browser
def test_colour_scheme_is_chosen_and_kept(page):
    back = "return getComputedStyle(document.body.parentElement).backgroundColor"
    page.open(prefers_color_scheme="light")
    light = page.run(back)
    page.all("#scheme label")[2].click()
    dark = page.run(back)
    assert dark != light
    page.open(prefers_color_scheme="light")
    assert page.run(back) == dark
    page.all("#scheme label")[0].click()
    assert page.run(back) == light


@in_browser
@pytest.mark.parametrize("view", ["grid", "slider", "single", "difference", "bands"])
def test_phone(page, view):
    page.open(f"view={view}", PHONE)
    assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    small = page.run(
        "return [...document.querySelectorAll('button, select, input, label')]"
        ".filter(e => e.checkVisibility() && !e.closest('.segments label input, label > input'))"
        ".map(e => [e.closest('label') ?? e, e])"
        ".map(([e]) => [e.getBoundingClientRect(), e.id || e.textContent])"
        ".filter(([r]) => r.width < 24 || r.height < 24)"
        ".map(([r, t]) => `${t} ${r.width} ${r.height}`)"
    )
    assert small == []
    scroll = page.run(
        "const s = document.querySelector('.scroll'); s.scrollLeft = 90;"
        "return s.querySelector('tbody th').getBoundingClientRect().x - s.getBoundingClientRect().x"
    )
    assert scroll == pytest.approx(0, abs=1)


@in_browser
def test_every_control_has_a_name_and_a_visible_focus(page):
    """Tab goes through the page once, from the top to the end."""
    page.open("view=slider")
    seen = []
    for _ in range(80):
        page.actions().send_keys("\ue004").perform()
        node = page.driver.switch_to.active_element
        if node.tag_name == "body" or node.id in (n for n, *_ in seen):
            break
        outline = page.run(
            "const e = arguments[0], s = [e, e.nextElementSibling].filter(Boolean)"
            ".flatMap(n => [null, '::after'].map(p => getComputedStyle(n, p)));"
            "return s.some(x => x.outlineStyle !== 'none' && parseFloat(x.outlineWidth) >= 2)",
            node,
        )
        top = page.run("return arguments[0].getBoundingClientRect().y + scrollY", node)
        seen.append((node.id, node.accessible_name, outline, node.get_attribute("id"), top))
    assert len(seen) > 25
    assert all(name.strip() for _, name, *_ in seen)
    assert all(outline for _, _, outline, *_ in seen), [s for s in seen if not s[2]]
    tops = [top for *_, top in seen[1:]]
    assert all(later > earlier - 40 for earlier, later in itertools.pairwise(tops))
    levels = page.run(
        "return [...document.querySelectorAll('main h2, main h3, h1')].map(h => h.tagName)"
    )
    assert levels == ["H1", "H2", "H2", "H3"]
    roles = {"header": "banner", "main": "main", "#viewer": "region"}
    assert {k: page.one(k).aria_role for k in roles} == roles


@in_browser
def test_page_works_while_it_is_read(page, tmp_path):
    """One scene arrives late, as while the page is still loading."""
    page.open()
    names = page.run(
        "const late = document.querySelector('[data-scene=two]'); late.remove();"
        "Object.defineProperty(document, 'readyState', {value: 'loading', configurable: true});"
        "stepPair(1); setTimeout(() => { document.body.append(late, '\\n') }, 300);"
        "return $$('stage').hasAttribute('aria-busy')"
    )
    assert names
    page.settle()
    assert page.one("#pair-name").text == "two"
    assert len(page.all(".pane")) == 5


@in_browser
def test_page_with_images_of_some_pairs_only(page, tmp_path):
    stored = [scene for scene in scenes() if scene.name in ("two", "constructor")]
    viewer.write(tmp_path / "report.html", comparison(), stored)
    other = Browser(page.driver, (tmp_path / "report.html").as_uri()).open()
    other.until("return document.querySelector('#pair-name').textContent === 'two'")
    other.settle()
    assert other.texts("#pair-count") == ["2 of 4"]
    other.press("j")
    assert other.one("#pair-name").text == "constructor"
    assert other.texts("#pair-scores td")[0] == "–undefined"  # noqa: RUF001
    other.press("j")
    assert other.one("#pair-name").text == "two"


@in_browser
def test_page_without_images(page, tmp_path):
    viewer.write(tmp_path / "report.html", comparison(), [])
    other = Browser(page.driver, (tmp_path / "report.html").as_uri()).open()
    assert "no images of this pair" in other.one("#stage").text
    other.press("j", "2", "+", "x")
    assert other.one("#pair-name").text == "one"


@in_browser
def test_pixel_under_the_mouse(page):
    page.open("pair=one&view=slider&first=source.b&second=result.Good")
    page.actions().move_to_element_with_offset(page.show(".pane"), 40, -60).perform()
    x, y, values = re.fullmatch(r"(\d+), (\d+): (.*)", page.one(".pixel").text).groups()
    b, good = (picture("one", *k)[int(y), int(x)] for k in (("source", "b"), ("result", "Good")))
    assert values == f"{b[0]} {b[1]} {b[2]} | {good[0]}"


@in_browser
def test_without_javascript(page):
    page.command("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get("about:blank")
        page.driver.get(page.url)
        assert "needs JavaScript" in page.one("noscript").text
        assert page.one("#scores").is_displayed()
        assert not page.one("#viewer").is_displayed()
        assert not page.one(".tools").is_displayed()
    finally:
        page.command("Emulation.setScriptExecutionDisabled", {"value": False})
