from __future__ import annotations

from typing import Any

import pytest

from tests.system.browser.page import Demo
from tests.unit.client.serving import Serving

#: WCAG 2.2 AA for text.
CONTRAST = 4.5
#: Every text whose colour is too close to what lies behind it.
WEAK = """(least) => {
  const rgba = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.7) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !e.offsetParent || e.closest(":disabled, .sr, option, noscript")) continue;
    const a = light(rgba(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) found.push(`${ratio.toFixed(2)} ${e.tagName} ${text.slice(0, 40)}`);
  }
  return found;
}"""


def test_everything_can_be_reached_and_run_with_the_keyboard(demo: Demo) -> None:
    page = demo.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#tab-sample")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-pictures", "aria-selected") == "true"
    assert page.is_visible("#pane-pictures")
    page.keyboard.press("Home")
    assert page.is_visible("#pane-sample")
    page.focus("#predict")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results:not([hidden])")
    page.focus("#wipe")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.getElementById('stage').style.getPropertyValue('--at')") == "53%"


def test_every_control_and_picture_has_a_name(demo: Demo) -> None:
    demo.predict()
    nameless = demo.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, video, img")].filter((e) => {
          if (e.closest('[aria-hidden="true"]')) return false;
          const label = e.labels?.length || e.closest("label");
          return !(label || e.getAttribute("aria-label") || e.textContent.trim() || e.hasAttribute("alt"));
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, running: Serving, scheme: str) -> None:
    with Demo(browser, running.url, color_scheme=scheme) as demo:
        demo.predict()
        demo.page.evaluate("window.scrollTo(0, 0)")
        weak = demo.page.evaluate(WEAK, CONTRAST)
        assert weak == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_screen(browser: Any, running: Serving, width: int) -> None:
    with Demo(browser, running.url, viewport={"width": width, "height": 800}) as demo:
        demo.predict()
        for tab in ("pictures", "video", "live", "sample"):
            demo.page.click(f"#tab-{tab}")
            assert demo.page.evaluate("document.documentElement.scrollWidth") <= width


def test_who_wants_no_motion_gets_none(browser: Any, running: Serving) -> None:
    with Demo(browser, running.url, reduced_motion="reduce") as demo:
        demo.predict()
        seconds = demo.page.evaluate(
            "[...document.querySelectorAll('*')].map((e) => parseFloat(getComputedStyle(e).transitionDuration))"
        )
        assert max(seconds) == 0
