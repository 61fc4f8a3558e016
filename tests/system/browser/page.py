"""The demo page as a person uses it."""

from __future__ import annotations

import time
from typing import Any

#: What Chromium needs to run as root, alone and silent.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds that anything may take on a busy machine.
PATIENCE = 60_000


class Demo:
    """One visit, begun when `ready` is there; `options` go to the browser.

    `troubles` collects what the browser complains of: errors, refused resources, policies broken.
    """

    def __init__(self, browser: Any, url: str, *, ready: str = ".health.up", **options: Any) -> None:
        self._ready = ready
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", self._heard)
        self._url = url

    def _heard(self, message: Any) -> None:
        # The browser itself logs answers of 4xx and 5xx; the tests that provoke one look at what the page says.
        if message.type == "error" and "status of" not in message.text:
            self.troubles.append(message.text)

    def __enter__(self) -> Demo:
        self.page.goto(self._url)
        self.page.wait_for_selector(self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def predict(self) -> str:
        """Press the button; what is said to everybody when the answer is there."""
        self.page.evaluate("document.getElementById('said').textContent = ''")
        self.page.click("#predict")
        self.until("document.getElementById('said').textContent !== '' || !document.getElementById('error').hidden")
        return self.text("#said") or self.text("#error")

    def until(self, condition: str) -> None:
        """Waits for a JavaScript expression to hold. (Playwright's own way needs what the page's policy forbids.)"""
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"in vain: {condition}"
            self.page.wait_for_timeout(30)

    def text(self, selector: str) -> str:
        """As shown."""
        return str(self.page.inner_text(selector)).strip()

    def error(self) -> str:
        """The error that is shown, once one is."""
        self.page.wait_for_selector("#error:not([hidden])")
        return self.text("#error")

    def differs(self, a: str, b: str) -> float:
        """Mean difference of two canvases' pixels, 0 to 255."""
        return float(
            self.page.evaluate(
                """([a, b]) => {
                  const data = (id) => { const c = document.querySelector(id);
                    return c.getContext("2d").getImageData(0, 0, c.width, c.height).data; };
                  const x = data(a), y = data(b);
                  if (x.length !== y.length) return 255;
                  let sum = 0;
                  for (let i = 0; i < x.length; i++) sum += Math.abs(x[i] - y[i]);
                  return sum / x.length;
                }""",
                [a, b],
            )
        )
