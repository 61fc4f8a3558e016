from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.system.browser.clips import write_webm
from tests.system.browser.page import Demo
from tests.system.e2e.process import SAMPLES
from tests.unit.client.serving import Serving, serving

SLOTS = [f'[data-slot="{k}"] input' for k in range(3)]


def test_a_sample_is_predicted_compared_and_explained(demo: Demo) -> None:
    said = demo.predict()
    assert re.match(r"The next frame is predicted: [\d.]+ dB from the true one; repeating the last frame", said)
    assert demo.page.evaluate("document.activeElement.id") == "results-title"
    assert demo.differs("#c-predicted", "#c-current") > 0.1
    assert demo.differs("#c-previous", "#c-current") > 0.1
    ran = demo.page.locator("#blocks li.ran").count()
    assert f"{ran} of 9 blocks ran" in said
    assert re.search(r"[\d.]+ GFLOPs for 448×256", demo.text("#flops"))
    assert [name in demo.text("#times-list") for name in ("decode", "queue", "route", "blocks", "encode")] == [True] * 5
    with demo.page.expect_download() as kept:
        demo.page.click("#save")
    assert Path(kept.value.path()).read_bytes().startswith(b"\x89PNG")


def test_every_view_draws_something_else(demo: Demo) -> None:
    demo.predict()
    seen = set()
    for view in ("true", "last", "error", "flow", "mask"):
        # The label is what a person sees and clicks; Playwright waits until it has stopped moving.
        demo.page.click(f'label:has(input[name="view"][value="{view}"])')
        seen.add(demo.page.evaluate("document.getElementById('stage-under').toDataURL()"))
    assert len(seen) == 5


def test_more_blocks_are_another_line_of_the_table(demo: Demo) -> None:
    demo.predict()
    demo.page.select_option("#route", "full")
    assert "9 of 9 blocks ran" in demo.predict()
    demo.page.select_option("#route", "1")
    demo.predict()
    rows = demo.page.locator("#history tr").all_inner_texts()
    assert [row.split("\t")[1].count("1") for row in rows][:2] == [1, 9]
    demo.page.select_option("#sample-clip", "1")
    assert demo.page.locator("#history tr").count() == 0


def test_a_mixture_says_what_it_is_made_of_and_where_it_is_to_be_trusted(demo: Demo) -> None:
    assert demo.page.input_value("#method") == "dmvfn"
    assert demo.page.is_disabled('#method option[value="mix"]')
    demo.page.select_option("#method", "flow")
    assert demo.page.is_disabled("#route")
    said = demo.predict()
    assert re.search(r"Made of \d+ % [a-z]+", said)
    assert demo.differs("#c-predicted", "#c-current") > 0.1
    assert "motion" in demo.text("#times-list")
    assert (demo.text("#made-of-title"), demo.page.is_hidden("#blocks")) == ("What is it made of?", True)
    assert re.match(r"\d+ % .+ frame", demo.text("#shares").replace("\n", " "))
    assert demo.text("#mask-name") == "Confidence"
    demo.page.click('label:has(input[name="view"][value="mask"])')
    assert demo.text("#tag-left") == "confidence"


def test_several_frames_ahead_can_be_played_and_stepped(demo: Demo) -> None:
    demo.page.select_option("#steps", "3")
    demo.predict()
    demo.page.click("#play")
    demo.until("document.getElementById('step-at').textContent === '3'")
    demo.page.click("#play")
    demo.page.focus("#step")
    demo.page.keyboard.press("Home")
    assert demo.text("#step-at") == "1"
    demo.page.keyboard.press("ArrowRight")
    assert demo.text("#predicted-note") == "2 frames ahead"


def test_frames_at_times_between_and_beyond_come_of_one_prediction(demo: Demo) -> None:
    demo.page.fill("#t", "0.5, 3")
    assert demo.page.is_disabled("#steps")
    assert demo.predict().startswith("Frame 0.5 ahead is predicted. ")
    assert demo.page.is_hidden("#f-true")
    demo.page.focus("#step")
    demo.page.keyboard.press("End")
    assert demo.text("#step-at") == "3"
    assert demo.page.is_visible("#f-true")
    demo.page.fill("#t", "")
    assert demo.page.is_enabled("#steps")
    assert demo.predict().startswith("The next frame is predicted: ")


def test_two_pictures_of_ones_own_with_and_without_the_true_next(demo: Demo) -> None:
    demo.page.click("#tab-pictures")
    for k in range(2):
        demo.page.set_input_files(SLOTS[k], SAMPLES / f"frame0{k}.png")
        demo.page.wait_for_selector(f'[data-slot="{k}"] canvas')
    assert demo.predict().startswith("The next frame is predicted. ")
    assert demo.page.is_hidden("#f-true")
    demo.page.set_input_files(SLOTS[2], SAMPLES / "frame02.png")
    demo.page.wait_for_selector('[data-slot="2"] canvas')
    assert "dB from the true one" in demo.predict()
    assert demo.page.is_visible("#f-true")


def test_a_video_is_opened_moved_through_and_predicted(demo: Demo, tmp_path: Path) -> None:
    demo.page.click("#tab-video")
    demo.page.set_input_files("#video-file", write_webm(tmp_path / "clip.webm"))
    demo.page.wait_for_selector("#video-tools:not([hidden])")
    demo.until("document.getElementById('said').textContent.includes('is open')")
    assert "dB from the true one" in demo.predict()
    demo.page.evaluate(
        "const t = document.getElementById('video-time'); t.value = 0.3; t.dispatchEvent(new Event('input'))"
    )
    assert demo.text("#video-at") == "0.30 s"
    assert "predicted" in demo.predict()


def test_scale_quality_and_nine_digits_are_sent(demo: Demo) -> None:
    demo.page.select_option("#scale", "0.25")
    demo.page.select_option("#quality", "adaptive")
    demo.page.select_option("#route", "digits")
    demo.page.fill("#digits", "1101")
    demo.page.click("#predict")
    assert "nine digits" in demo.error()
    demo.page.fill("#digits", "110100000")
    assert _sent(demo, "scale", "quality", "route") == ["0.25", "adaptive", "110100000"]


def test_a_scale_is_sent_of_classical_motion_where_it_is_fast_only(demo: Demo) -> None:
    demo.page.select_option("#method", "flow")
    assert demo.page.is_disabled("#scale")
    demo.page.select_option("#quality", "fast")
    demo.page.select_option("#scale", "0.5")
    assert _sent(demo, "method", "quality", "scale") == ["flow", "fast", "0.5"]
    demo.page.select_option("#quality", "exact")
    assert demo.page.is_disabled("#scale")
    assert _sent(demo, "method", "quality", "scale") == ["flow", None, None]


def _sent(demo: Demo, *names: str) -> list[Any]:
    """Press the button; return these fields of the form that is sent, None where it has none of that name."""
    # Playwright does not tell the body of a form with files.
    demo.page.evaluate(
        """() => { const send = window.fetch; window.sent = undefined; window.fetch = (path, how) => {
             if (how?.body instanceof FormData) window.sent = Object.fromEntries(how.body);
             return send(path, how); }; }"""
    )
    demo.page.click("#predict")
    demo.until("window.sent !== undefined")
    return [demo.page.evaluate(f"window.sent.{name} ?? null") for name in names]


@pytest.mark.parametrize("size", [{"width": 390, "height": 844}, {"width": 1280, "height": 900}])
def test_predict_is_in_sight_without_scrolling(browser: Any, running: Serving, size: Any) -> None:
    with Demo(browser, running.url, viewport=size) as demo:
        box = demo.page.locator("#predict").bounding_box()
        assert box["y"] + box["height"] <= size["height"]
        assert demo.page.evaluate("document.documentElement.scrollWidth") == size["width"]


def test_a_picture_that_cannot_be_read_leaves_no_older_one_in_its_place(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    demo.page.click("#tab-pictures")
    for k in range(2):
        demo.page.set_input_files(SLOTS[k], SAMPLES / f"frame0{k}.png")
        demo.page.wait_for_selector(f'[data-slot="{k}"] canvas')
    demo.page.set_input_files(SLOTS[1], tmp_path / "text.png")
    assert "text.png is not a picture" in demo.error()
    assert demo.page.locator('[data-slot="1"] canvas').count() == 0
    demo.page.click("#predict")
    demo.until("document.getElementById('error').textContent.includes('Choose a previous and a current')")


def test_no_more_live_frames_are_dropped_than_there_were(demo: Demo) -> None:
    """Answers to frames of older seconds once made 124 % of this second's."""
    told = demo.page.evaluate(
        """async () => {
          const { Fates } = await import("/demo/fates.js");
          const fates = new Fates();
          for (let k = 0; k < 31; k++) fates.dropped();
          const slow = fates.take();
          fates.answered(4); fates.answered(5); fates.answered(); fates.dropped();
          return [slow, fates.take(), fates.take()];
        }"""
    )
    assert told == [
        {"frames": 31, "dropped": 31, "share": 100, "blocks": 0},
        {"frames": 4, "dropped": 1, "share": 25, "blocks": 9},
        {"frames": 0, "dropped": 0, "share": 0, "blocks": 0},
    ]


def test_live_from_a_camera_until_it_is_stopped(demo: Demo) -> None:
    demo.page.click("#tab-live")
    demo.page.select_option("#live-width", "160")
    demo.page.click("#live-start")
    demo.until("/\\d+ ms/.test(document.getElementById('live-latency').textContent)")
    demo.until("Number(document.getElementById('live-blocks').textContent) > 0")
    assert re.fullmatch(r"\d+ % of \d+", demo.text("#live-dropped"))
    assert demo.page.evaluate("document.getElementById('live-predicted').width") == 160
    demo.page.click("#live-stop")
    assert demo.text("#said") == "Live prediction has stopped."
    assert demo.page.is_enabled("#live-start")


def test_the_delayed_view_stands_beside_what_was_predicted_for_its_instant(demo: Demo) -> None:
    demo.page.click("#tab-live")
    demo.page.select_option("#live-width", "160")
    demo.page.evaluate("document.getElementById('live-delay').value = 200")
    demo.page.dispatch_event("#live-delay", "input")
    assert demo.text("#live-delay-at") == "200 ms"
    demo.page.click("#live-start")
    demo.until("document.getElementById('live-delayed').width === 160")
    demo.until("document.getElementById('live-gain').textContent.endsWith('dB')")
    assert "200 ms" in demo.text("#live-note")
    assert [demo.page.is_disabled(name) for name in ("#steps", "#t")] == [True, True], "the delay says for when"
    tops = [demo.page.locator(name).bounding_box()["y"] for name in ("#live-delayed", "#live-predicted")]
    assert tops[0] == tops[1], "what is compared stands side by side"
    assert demo.differs("#live-delayed", "#live-predicted") >= 0
    demo.page.evaluate("document.getElementById('live-delay').value = 0")
    demo.page.dispatch_event("#live-delay", "input")
    demo.page.dispatch_event("#live-delay", "change")
    demo.until("document.getElementById('live-delayed-view').hidden && !document.getElementById('live-stop').disabled")
    demo.page.click("#live-stop")
    assert demo.page.is_enabled("#steps"), "without a delay the choice counts again"


def test_live_frames_are_sent_in_order_though_the_newer_be_encoded_first(demo: Demo) -> None:
    """The server refuses times that go back: "show_at needs capture times that grow"."""
    demo.page.evaluate(
        """() => {
          const encode = HTMLCanvasElement.prototype.toBlob, send = WebSocket.prototype.send;
          let calls = 0;
          HTMLCanvasElement.prototype.toBlob = function (done, ...how) {
            const wait = calls++ % 2 ? 0 : 200;
            encode.call(this, (blob) => setTimeout(done, wait, blob), ...how);
          };
          window.times = [];
          WebSocket.prototype.send = function (message) {
            if (typeof message !== "string") {
              const size = new DataView(message.buffer).getUint32(0, true);
              window.times.push(JSON.parse(new TextDecoder().decode(message.slice(4, 4 + size))).presentation_time_us);
            }
            send.call(this, message);
          };
        }"""
    )
    demo.page.click("#tab-live")
    demo.page.select_option("#live-width", "160")
    demo.page.click("#live-start")
    demo.until("window.times.length >= 8")
    demo.page.click("#live-stop")
    times = demo.page.evaluate("window.times")
    assert times == sorted(times)
    assert demo.page.is_hidden("#error")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "Choose a previous and a current frame first."),
        (["frame00.png", "text.png"], "text.png is not a picture this browser can read"),
        (["frame00.png", "small.png"], "Both frames must have one size: previous is 448×256, current is 64×48."),
    ],
)
def test_what_cannot_be_predicted_says_why(demo: Demo, tmp_path: Path, files: list[str], told: str) -> None:
    from PIL import Image

    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "small.png")
    demo.page.click("#tab-pictures")
    for slot, name in enumerate(files):
        path = SAMPLES / name if (SAMPLES / name).exists() else tmp_path / name
        demo.page.set_input_files(SLOTS[slot], path)
    if "text.png" not in files:
        if files:
            demo.page.wait_for_selector('[data-slot="1"] canvas')
        demo.page.click("#predict")
    assert told in demo.error()


def test_a_server_that_is_gone_is_told_with_what_to_do(browser: Any, running: Serving) -> None:
    with Demo(browser, running.url) as demo:
        demo.page.route("**/v1/predict", lambda route: route.abort())
        demo.page.click("#predict")
        assert "Is the service still running?" in demo.error()
        assert demo.page.is_enabled("#predict")


def test_a_busy_server_says_when_to_come_back(browser: Any, running: Serving) -> None:
    problem = '{"code":"queue_full","title":"Queue full","detail":"the queue is full","retry_after_ms":2400}'
    with Demo(browser, running.url) as demo:
        demo.page.route("**/v1/predict", lambda route: route.fulfill(status=429, body=problem))
        demo.page.click("#predict")
        assert "Try again in 3 s." in demo.error()


def test_a_server_with_keys_asks_for_one_and_takes_it(browser: Any) -> None:
    settings = Settings(api_keys=(("ann", "correct-horse"),))
    with serving(settings) as guarded, Demo(browser, guarded.url) as demo:
        demo.page.wait_for_selector("#key-field:not([hidden])")
        demo.page.click("#predict")
        assert "Enter an API key" in demo.error()
        demo.page.fill("#key", "correct-horse")
        demo.page.locator("#key").blur()
        assert "predicted" in demo.predict()
        assert demo.page.is_hidden("#error")
        demo.page.click("#tab-live")
        demo.page.click("#live-start")
        demo.until("/\\d+ ms/.test(document.getElementById('live-latency').textContent)")
        demo.page.click("#live-stop")
