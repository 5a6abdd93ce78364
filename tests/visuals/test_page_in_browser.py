"""The interactive page in headless Chromium: it draws, measures and obeys pointer, keyboard and touch."""

import re
import shutil

import numpy as np
import pytest

from posynda_jax.visuals import page
from posynda_jax.visuals.pose_sequence import CHOSEN, PALETTE, PoseSequence
from tests.visuals.sequences import swaying
from tests.visuals.test_page import read

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
RIGHT, LEFT, HOME, END = "\ue014", "\ue012", "\ue011", "\ue010"


@pytest.fixture(scope="module")
def browser():
  """Headless Chromium, or a skip that names the missing program."""
  binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
  driver = shutil.which("chromedriver")
  if not binary or not driver:
    pytest.skip("no Chromium with chromedriver on this machine: apt-get install chromium chromium-driver")
  options = webdriver.ChromeOptions()
  options.binary_location = binary
  for name in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "force-device-scale-factor=1"):
    options.add_argument(f"--{name}")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
  yield browser
  browser.quit()


@pytest.fixture
def shown(browser, walk):
  """The browser with the page of `walk` on a laptop's screen. The page leaves no message on the console."""
  show(browser, walk[1])
  yield browser
  # These tests read canvases, which causes messages about willReadFrequently.
  assert [entry for entry in browser.get_log("browser") if "willReadFrequently" not in entry["message"]] == []


def show(browser, path, width: int = 1366, height: int = 768, phone: bool = False) -> float:
  """Opens a page on a screen of that size; returns seconds until it was loaded and drawn."""
  metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
  browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
  browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
  browser.get(path.as_uri())
  return settle(browser)


def settle(browser) -> float:
  """Waits for two animation frames, so that the page has drawn; returns its age in seconds."""
  return browser.execute_async_script(
      "const done = arguments[0];"
      "requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000)))"
  )


def find(browser, selector: str):
  return browser.find_element("css selector", selector)


def picture(browser, which: str = "space") -> str:
  settle(browser)
  return browser.execute_script(f"return document.querySelector('#{which} canvas').toDataURL()")


def pixels(browser, colour: str, which: str = "space") -> int:
  """Number of pixels of a canvas with exactly that colour."""
  settle(browser)
  red, green, blue = bytes.fromhex(colour[1:])
  return browser.execute_script(
      f"const c = document.querySelector('#{which} canvas');"
      "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
      f"for (let i = 0; i < d.length; i += 4) n += d[i] === {red} && d[i + 1] === {green} && d[i + 2] === {blue};"
      "return n")


def keys(browser, *pressed: str):
  webdriver.ActionChains(browser, duration=0).send_keys(*pressed).perform()
  settle(browser)


def drag(browser, element, by: tuple[int, int]):
  webdriver.ActionChains(browser, duration=20).click_and_hold(element).move_by_offset(*by).release().perform()


def per_joint(browser, values: str, axes: tuple[int, ...] = ()) -> np.ndarray:
  """The page's array `values` as [T 17 *axes]."""
  return np.array(browser.execute_script(f"return Array.from({values})")).reshape(-1, 17, *axes)


def frame(browser) -> int:
  return int(find(browser, "#frame").get_attribute("value"))


def test_the_errors_in_the_browser_are_those_of_numpy(shown, walk):
  given, path = walk
  data, _ = read(path)
  projection = data["series"][0]["projection"]
  np.testing.assert_allclose(per_joint(shown, "series[0].projection", (2,)), projection, atol=1e-3)
  error = 1000 * np.linalg.norm(given.poses["chosen"] - (given.truth - given.truth[:, :1]), axis=-1)
  np.testing.assert_allclose(per_joint(shown, "errors"), error, atol=0.2)
  assert f"chosen: MPJPE {error[0].mean():.1f} mm" in find(shown, "#numbers").text
  shown.execute_script("$('measure').value = 'px'; measure()")
  error = np.linalg.norm(projection - data["keypoints"], axis=-1)
  np.testing.assert_allclose(per_joint(shown, "errors"), error, atol=0.01)


def test_dragging_orbits_and_dragging_back_returns(shown):
  canvas, before = find(shown, "#space canvas"), picture(shown)
  drag(shown, canvas, (120, 30))
  assert picture(shown) != before
  drag(shown, canvas, (-120, -30))
  assert picture(shown) == before
  wheel = "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -300, cancelable: true}))"
  shown.execute_script(wheel, canvas)
  assert pixels(shown, CHOSEN) and picture(shown) != before
  for button in shown.find_elements("css selector", "[data-view]"):
    button.click()
  assert shown.execute_script("return [state.yaw, state.pitch, state.zoom]") == pytest.approx([0, np.pi / 2, 1])


def test_up_is_up_and_the_camera_view_agrees_with_the_image(shown, walk):
  find(shown, "[data-view=camera]").click()
  look = "return toCanvas(joint(truth, arguments[0]), 800, 400)"
  head, ankle, left, right = (shown.execute_script(look, joint) for joint in (10, 6, 13, 16))
  assert head[1] < ankle[1] - 100
  keypoints = walk[0].keypoints_px[0]
  assert np.sign(left[0] - right[0]) == np.sign(keypoints[13, 0] - keypoints[16, 0])
  drag(shown, find(shown, "#space canvas"), (0, 40))  # look down: nearer floor is lower
  floor = "const f = bounds[0].floor; return [toCanvas([0, f, -1], 800, 400), toCanvas([0, f, 1], 800, 400)]"
  near, far = shown.execute_script(floor)
  assert near[1] > far[1] and near[2] < far[2]


def test_the_slider_the_strip_and_the_keyboard_choose_the_frame(shown):
  before, image = picture(shown), picture(shown, "image")
  drag(shown, find(shown, "#frame"), (60, 0))
  slid = frame(shown)
  assert 230 < slid < 330 and f"frame {slid} " in find(shown, "#clock").text
  assert picture(shown) != before and picture(shown, "image") != image
  assert find(shown, "#frame").get_attribute("aria-valuetext") == f"frame {slid}, {slid / 50:.2f} seconds"
  heat = find(shown, "#heat canvas")
  shown.execute_script("arguments[0].scrollIntoView()", heat)
  drag(shown, heat, (0, 0))
  middle = (heat.size["width"] / 2 - 72) / (heat.size["width"] - 72) * 500
  assert abs(frame(shown) - middle) <= 1 and "mm" in find(shown, "#reading").text
  at = frame(shown)
  for pressed, wanted in (((RIGHT, RIGHT, LEFT), at + 1), ((END, RIGHT), 499), ((HOME,), 0)):
    keys(shown, *pressed)
    assert frame(shown) == wanted


def test_toggles_and_number_keys_show_and_hide(shown):
  labels = [label.text.split("\n")[0] for label in shown.find_elements("css selector", "#shown label")]
  assert [re.sub(r"\s*\d$", "", label) for label in labels] == ["chosen", "source only", "5 hypotheses", "ground truth"]
  assert pixels(shown, CHOSEN) > 200 and pixels(shown, PALETTE[0]) > 20
  boxes = shown.find_elements("css selector", "#shown input")
  boxes[2].click()
  assert pixels(shown, PALETTE[0]) == 0 and pixels(shown, CHOSEN) > 200
  keys(shown, "1")
  assert pixels(shown, CHOSEN) == 0 and pixels(shown, CHOSEN, "image") > 20 and not boxes[0].is_selected()
  keys(shown, "1", "3")
  assert pixels(shown, CHOSEN) > 200 and pixels(shown, PALETTE[0]) > 20
  before = picture(shown), picture(shown, "image")
  keys(shown, "t", "i", "v")
  assert picture(shown) != before[0] and picture(shown, "image") != before[1]


def test_a_phone_needs_no_sideways_scrolling_and_pinches_to_zoom(browser, walk):
  show(browser, walk[1], 390, 844, phone=True)
  assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
  sizes = "return [...document.querySelectorAll('body *')].map((e) => parseFloat(getComputedStyle(e).fontSize))"
  assert min(browser.execute_script(sizes)) >= 12
  box = browser.execute_script("const b = document.querySelector('#space canvas').getBoundingClientRect(); return b")

  def touch(kind, *apart):
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    points = [{"x": x + dx, "y": y, "id": i} for i, dx in enumerate(apart)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

  def gesture(start, end):
    touch("touchStart", *start)
    touch("touchMove", *end)
    touch("touchEnd")
    settle(browser)
    return browser.execute_script("return [state.zoom, state.yaw]")

  zoom, yaw = gesture((-40, 40), (-80, 80))
  assert zoom == pytest.approx(2, rel=0.05)
  assert gesture((0,), (50,))[1] == pytest.approx(yaw - 0.5, abs=0.02)


def test_the_expected_error_is_a_haze_around_joints_and_a_choice_of_the_strip(shown, tmp_path):
  given, pictures = swaying(4), []
  for size in (None, 0.02, 0.2):
    sigma = None if size is None else np.broadcast_to(size * (1 + np.arange(17) / 17), (4, 17))
    page.save_page(tmp_path / "a.html", PoseSequence(**given, sigma_m=sigma))
    show(shown, tmp_path / "a.html")
    pictures.append(picture(shown))
  assert len(set(pictures)) == 3
  shown.execute_script("$('measure').value = 'expected'; measure()")
  np.testing.assert_allclose(per_joint(shown, "errors"), 1000 * sigma, atol=0.02)
  assert f"expected error {1000 * sigma[0].mean():.0f} mm" in find(shown, "#numbers").text
  assert find(shown, "#scale").text.endswith("mm or more")
  shown.execute_script("$('measured').value = 1; measure()")
  assert shown.execute_script("return $('measure').value") == "px"
