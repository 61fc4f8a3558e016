"""POST /v1/predict: every kind of body, every kind of answer."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import re
from email.message import EmailMessage
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.interfaces import Readiness
from service.core.types import RoutePolicy
from service.imaging.codec import FrameLimits, ImageFormat, decode
from tests.unit.imaging.pictures import Pixels, file_of, noise
from tests.unit.rest.small import Small, running

URL = "/v1/predict"


def png(pixels: Pixels) -> bytes:
    return file_of(pixels, "PNG")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def post(
    small: Small, previous: Pixels, current: Pixels, accept: str | None = None, **options: Any
) -> httpx.Response:
    """A form with options as fields."""
    files = {"previous": png(previous), "current": png(current)}
    headers = {} if accept is None else {"Accept": accept}
    return await small.http.post(URL, files=files, data=options, headers=headers)


def parts_of(answer: httpx.Response) -> list[EmailMessage]:
    head = b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    assert isinstance(message, EmailMessage)
    return [part for part in message.iter_parts() if isinstance(part, EmailMessage)]


def shifted(pixels: Pixels, steps: int = 1) -> Pixels:
    return np.roll(pixels, steps, axis=0)


class TestBodies:
    async def test_a_form_of_two_files(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(small, previous, current)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert np.array_equal(decode(answer.content, FrameLimits(), "answer").pixels, shifted(current))
        assert np.array_equal(small.engine.requests[0].previous.pixels, previous)

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "PPM"])
    async def test_every_format_is_read(self, small: Small, current: Pixels, format: str) -> None:
        files = {"previous": file_of(current, format), "current": file_of(current, format)}
        assert (await small.http.post(URL, files=files)).status_code == 200

    async def test_json_with_base64(self, small: Small, previous: Pixels, current: Pixels) -> None:
        body = {"previous": b64(png(previous)), "current": "data:image/png;base64," + b64(png(current)), "seed": None}
        answer = await small.http.post(URL, json=body)
        assert answer.status_code == 200
        assert np.array_equal(decode(answer.content, FrameLimits(), "answer").pixels, shifted(current))

    @pytest.mark.parametrize("shape", ["2,32,48,3", "32,48", " 2 , 32 , 48 , 3 "])
    async def test_raw_pixels_with_their_shape(
        self, small: Small, previous: Pixels, current: Pixels, shape: str
    ) -> None:
        headers = {
            "X-Frame-Shape": shape,
            "Content-Type": "application/octet-stream",
            "Accept": "application/octet-stream",
        }
        answer = await small.http.post(URL, content=previous.tobytes() + current.tobytes(), headers=headers)
        assert answer.status_code == 200
        assert answer.headers["x-frame-shape"] == "32,48,3"
        assert answer.content == shifted(current).tobytes()
        assert np.array_equal(small.engine.requests[0].previous.pixels, previous)

    @pytest.mark.parametrize("where", ["query", "form", "json"])
    async def test_options_come_by_query_form_or_json(
        self, small: Small, previous: Pixels, current: Pixels, where: str
    ) -> None:
        options: dict[str, Any] = {"route": "budget", "blocks": 2, "steps": 3, "scale": 0.5, "quality": "adaptive"}
        options |= {"deadline_ms": 5000, "image_quality": 70}
        headers = {"Accept": "multipart/mixed, image/jpeg"}
        if where == "json":
            body = {"previous": b64(png(previous)), "current": b64(png(current)), **options}
            answer = await small.http.post(URL, json=body, headers=headers)
        else:
            files = {"previous": png(previous), "current": png(current)}
            given = {"params" if where == "query" else "data": options}
            answer = await small.http.post(URL, files=files, headers=headers, **given)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        request = small.engine.requests[0]
        assert (request.options.route.policy, request.options.route.blocks) == (RoutePolicy.BUDGET, 2)
        assert (request.options.steps, request.options.scale, request.options.quality) == (3, 0.5, "adaptive")
        assert request.deadline is not None
        assert 0 < request.deadline - small.parts.clock() <= 5

    async def test_the_query_also_serves_raw_bodies(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await small.http.post(
            URL + "?steps=3",
            content=previous.tobytes() + current.tobytes(),
            headers={"X-Frame-Shape": "32,48", "Content-Type": "application/octet-stream", "Accept": "application/*"},
        )
        assert answer.headers["content-type"] == "application/json"

    async def test_a_large_body_is_taken_apart_in_a_thread(self, small: Small) -> None:
        large = noise(256, 512)
        body = {"previous": b64(png(large)), "current": b64(png(large))}
        assert (await small.http.post(URL, json=body)).status_code == 200


class TestAnswers:
    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            (None, "image/png"),
            ("*/*", "image/png"),
            ("image/*", "image/png"),
            ("image/jpeg", "image/jpeg"),
            ("image/webp,*/*;q=0.8", "image/webp"),
            ("image/png;q=0.1, image/x-portable-pixmap", "image/x-portable-pixmap"),
            ("application/json", "application/json"),
            ("application/octet-stream", "application/octet-stream"),
            ("multipart/mixed", "multipart/mixed"),
            ("text/html, image/gif, */*;q=0.1", "image/png"),
        ],
    )
    async def test_accept_chooses(
        self, small: Small, previous: Pixels, current: Pixels, accept: str | None, media_type: str
    ) -> None:
        answer = await post(small, previous, current, accept)
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == media_type
        assert answer.headers["vary"] == "Accept"

    async def test_accept_may_stand_in_several_lines(self, small: Small, previous: Pixels, current: Pixels) -> None:
        files = {"previous": png(previous), "current": png(current)}
        headers = [("Accept", "image/gif"), ("Accept", "image/webp")]
        assert (await small.http.post(URL, files=files, headers=headers)).headers["content-type"] == "image/webp"

    @pytest.mark.parametrize("format", [ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.PPM])
    async def test_lossless_pictures_are_the_prediction(
        self, small: Small, previous: Pixels, current: Pixels, format: ImageFormat
    ) -> None:
        answer = await post(small, previous, current, format.media_type)
        assert np.array_equal(decode(answer.content, FrameLimits(), "answer").pixels, shifted(current))

    @pytest.mark.parametrize("accept", ["image/jpeg", "image/webp"])
    async def test_a_lower_quality_makes_a_smaller_answer(
        self, small: Small, previous: Pixels, current: Pixels, accept: str
    ) -> None:
        low = await post(small, previous, current, accept, image_quality=10)
        high = await post(small, previous, current, accept, image_quality=95)
        assert len(low.content) < len(high.content)

    async def test_json_tells_everything(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(
            small, previous, current, "application/json", steps=2, seed=7, route="sample", maps="float32"
        )
        body = answer.json()
        assert (body["width"], body["height"], body["seed"], body["flops"]) == (48, 32, 7, 3000)
        assert body["timings_ms"] == {"queue": 1.0, "route": 2.0, "blocks": 3.0}
        for step, frame in enumerate(body["frames"], start=1):
            assert (frame["step"], frame["media_type"], frame["flops"]) == (step, "image/png", 1000 * step)
            pixels = decode(base64.b64decode(frame["data"]), FrameLimits(), "answer").pixels
            assert np.array_equal(pixels, shifted(current, step))
            assert (frame["flow"]["dtype"], frame["flow"]["shape"]) == ("float32", [32, 48, 4])
            flow = np.frombuffer(base64.b64decode(frame["flow"]["data"]), "<f4").reshape(32, 48, 4)
            assert np.allclose(flow, step / 3)
            mask = np.frombuffer(base64.b64decode(frame["mask"]["data"]), "<f4")
            assert np.allclose(mask, 0.25)

    async def test_several_steps_come_as_parts(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(small, previous, current, steps=3)
        parts = parts_of(answer)
        assert [part["X-Dmvfn-Step"] for part in parts] == ["1", "2", "3"]
        for step, part in enumerate(parts, start=1):
            assert part.get_content_type() == "image/png"
            assert part["X-Dmvfn-Flops"] == str(1000 * step)
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            assert np.array_equal(decode(data, FrameLimits(), "answer").pixels, shifted(current, step))
        assert answer.headers["x-dmvfn-route"] == "111111111,111111111,111111111"
        assert answer.headers["x-dmvfn-flops"] == "6000"

    async def test_maps_come_as_npy_parts(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(small, previous, current, "multipart/mixed, image/webp;q=0.5", maps="float16")
        picture, flow, mask = parts_of(answer)
        assert picture.get_content_type() == "image/webp"
        arrays = []
        for part in (flow, mask):
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            arrays.append(np.load(io.BytesIO(data), allow_pickle=False))
        assert [(a.dtype, a.shape) for a in arrays] == [(np.float16, (32, 48, 4)), (np.float16, (32, 48))]

    async def test_raw_answers_carry_every_step(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(small, previous, current, "application/octet-stream", steps=2)
        assert answer.headers["x-frame-shape"] == "2,32,48,3"
        assert answer.content == shifted(current, 1).tobytes() + shifted(current, 2).tobytes()

    @pytest.mark.parametrize(
        ("accept", "options"),
        [
            ("text/html", {}),
            ("image/gif", {}),
            ("image/png;q=0, image/jpeg;q=0", {}),
            ("image/png", {"steps": 2}),
            ("image/png", {"maps": "float32"}),
            ("application/octet-stream", {"maps": "float16"}),
        ],
    )
    async def test_what_cannot_be_answered_is_refused_unrun(
        self, small: Small, previous: Pixels, current: Pixels, accept: str, options: dict[str, Any]
    ) -> None:
        answer = await post(small, previous, current, accept, **options)
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
        assert small.engine.requests == []

    async def test_a_quality_for_a_lossless_picture_is_refused(
        self, small: Small, previous: Pixels, current: Pixels
    ) -> None:
        answer = await post(small, previous, current, "image/png", image_quality=50)
        assert (answer.status_code, answer.json()["field"]) == (400, "image_quality")

    async def test_headers_report_how_it_was_made(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await post(small, previous, current, route="100100100")
        assert answer.headers["x-dmvfn-route"] == "100100100"
        assert answer.headers["x-dmvfn-flops"] == "1000"
        assert answer.headers["x-dmvfn-model"] == "tiny-1"
        assert answer.headers["x-dmvfn-batch-size"] == "2"
        assert "x-dmvfn-seed" not in answer.headers
        timing = answer.headers["server-timing"]
        assert re.findall(r"(\w+);dur=[0-9.]+", timing) == ["decode", "queue", "route", "blocks", "encode"]

    async def test_a_sampled_route_reports_the_seed_it_drew(
        self, small: Small, previous: Pixels, current: Pixels
    ) -> None:
        answer = await post(small, previous, current, route="sample")
        assert int(answer.headers["x-dmvfn-seed"]) == small.engine.requests[0].options.route.seed


class TestRefusals:
    @pytest.mark.parametrize("content_type", ["text/plain", "image/png", "", "application/x-www-form-urlencoded"])
    async def test_other_kinds_of_body(self, small: Small, content_type: str) -> None:
        answer = await small.http.post(URL, content=b"hello", headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["field"]) == (415, "Content-Type")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("iVBORw0K\nGgoAAAAN", "in one line, with + and /"),
            ("iVBORw0KGgoAAA_-", "in one line, with + and /"),
            ("https://example.org/a.png", "previous is an address, and none is fetched; send the file in base64"),
        ],
    )
    async def test_what_is_no_base64_says_what_it_must_be(self, small: Small, text: str, told: str) -> None:
        answer = await small.http.post(URL, json={"previous": text, "current": text})
        assert (answer.status_code, answer.json()["field"]) == (422, "previous")
        assert told in answer.json()["detail"]

    async def test_compressed_bodies(self, small: Small) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await small.http.post(URL, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (415, "Content-Encoding")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"", "body"),
            (b"{", "body"),
            (b"[]", "body"),
            (b"3", "body"),
            (b"\xff\xfe\x00", "body"),
            (b"[" * 100_000, "body"),
            (b'{"a":' * 50_000, "body"),
            (b'{"seed": ' + b"9" * 5000 + b"}", "body"),
            (b'{"scale": NaN}', "body"),
            (b"{}", "previous"),
            (b'{"previous": 3}', "previous"),
            (b'{"previous": {"a": 1}, "current": ""}', "previous"),
            (b'{"previous": "!!"}', "previous"),
            (b'{"previous": "", "previous": ""}', "previous"),
            (b'{"previous": "", "current": "", "steps": 1, "steps": 1}', "steps"),
            (b'{"previous": "", "current": "", "frames": 1}', "frames"),
            (b'{"previous": "", "current": "", "steps": "1"}', "steps"),
            (b'{"previous": "", "current": "", "route": "\\ud800"}', "route"),
            (b'{"\\ud800": 1}', "\\ud800"),
            (b'{"previous": "\xc3\xa9", "current": ""}', "previous"),
        ],
    )
    async def test_broken_json(self, small: Small, body: bytes, field: str) -> None:
        answer = await small.http.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500
        assert answer.json()["field"] == field

    @pytest.mark.parametrize(
        "shape", ["", "2,32,48", "32,48,3", "1,32,48,3", "2,32,48,4", "-2,32", "32x48", "٣,٣", "9" * 500]
    )
    async def test_shapes_that_are_none(self, small: Small, shape: str) -> None:
        headers = {"X-Frame-Shape": shape.encode(), "Content-Type": b"application/octet-stream"}
        answer = await small.http.post(URL, content=b"", headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["field"]) == (400, "X-Frame-Shape")

    @pytest.mark.parametrize(
        ("shape", "status"), [("2,60000,1,3", 422), ("2,9000,9000,3", 413), ("2,0,0,3", 422), ("2,16,16,3", 422)]
    )
    async def test_shapes_that_lie_or_exceed(self, small: Small, shape: str, status: int) -> None:
        headers = {"X-Frame-Shape": shape, "Content-Type": "application/octet-stream"}
        assert (await small.http.post(URL, content=b"12345", headers=headers)).status_code == status

    async def test_frames_of_two_sizes(self, small: Small, previous: Pixels) -> None:
        answer = await post(small, previous, noise(48, 32))
        assert (answer.status_code, answer.json()["field"]) == (422, "current")
        assert "48x32" in answer.json()["detail"]

    @pytest.mark.parametrize("which", ["previous", "current"])
    async def test_a_file_that_is_no_picture(self, small: Small, current: Pixels, which: str) -> None:
        files = {"previous": png(current), "current": png(current), which: b"GIF89a not read"}
        answer = await small.http.post(URL, files=files)
        assert (answer.status_code, answer.json()["field"]) == (415, which)

    @pytest.mark.parametrize("missing", ["previous", "current"])
    async def test_a_missing_frame(self, small: Small, current: Pixels, missing: str) -> None:
        files = {"previous": png(current), "current": png(current)}
        del files[missing]
        answer = await small.http.post(URL, files=files)
        assert (answer.status_code, answer.json()["field"]) == (400, missing)

    async def test_a_frame_given_twice(self, small: Small, current: Pixels) -> None:
        files = [("previous", png(current)), ("current", png(current)), ("current", png(current))]
        answer = await small.http.post(URL, files=files)
        assert (answer.status_code, answer.json()["field"]) == (400, "current")

    @pytest.mark.parametrize(
        ("params", "data", "field"),
        [
            ({"steps": "1"}, {"steps": "1"}, "steps"),
            ([("steps", "1"), ("steps", "2")], {}, "steps"),
            ({"colour": "red"}, {}, "colour"),
            ({}, {"colour": "red"}, "colour"),
            ({"steps": "999"}, {}, "steps"),
            ({"steps": "-1"}, {}, "steps"),
            ({}, {"steps": "1" * 100}, "steps"),
            ({}, {"steps": "٣"}, "steps"),
            ({"blocks": "2", "seed": "1"}, {}, "seed"),
            ({"api_key": "leak", "steps": "1"}, {}, "api_key"),
        ],
    )
    async def test_options_that_are_wrong(
        self, small: Small, current: Pixels, params: Any, data: dict[str, str], field: str
    ) -> None:
        files = {"previous": png(current), "current": png(current)}
        answer = await small.http.post(URL, files=files, data=data, params=params)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert small.engine.requests == []


class TestTime:
    async def test_a_deadline_counts_from_arrival(self, previous: Pixels, current: Pixels) -> None:
        now = iter([10.0, *[10.5] * 100])
        async with running(clock=lambda: next(now)) as small:
            await post(small, previous, current, deadline_ms=700)
            assert small.engine.requests[0].deadline == pytest.approx(10.7)

    async def test_a_deadline_that_passed_while_reading_is_never_run(self, previous: Pixels, current: Pixels) -> None:
        now = iter([10.0, *[11.0] * 100])
        async with running(clock=lambda: next(now)) as small:
            answer = await post(small, previous, current, deadline_ms=700)
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
            assert small.engine.requests == []
            assert small.metric("dmvfn_deadline_missed_total", phase="admit") == 1

    async def test_nothing_is_answered_after_its_deadline(self, previous: Pixels, current: Pixels) -> None:
        now = iter([10.0, *[10.1] * 4, *[11.0] * 100])
        async with running(clock=lambda: next(now)) as small:
            answer = await post(small, previous, current, deadline_ms=700)
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
            assert small.engine.ran != []
            assert small.metric("dmvfn_deadline_missed_total", phase="late") == 1

    async def test_the_header_sets_a_deadline_too(self, small: Small, previous: Pixels, current: Pixels) -> None:
        files = {"previous": png(previous), "current": png(current)}
        await small.http.post(URL, files=files, headers={"X-Request-Timeout-Ms": "2500"})
        deadline = small.engine.requests[0].deadline
        assert deadline is not None
        assert deadline - small.parts.clock() <= 2.5

    async def test_work_is_taken_while_draining_has_only_begun(
        self, small: Small, previous: Pixels, current: Pixels
    ) -> None:
        small.engine.state = Readiness(False, "draining")
        assert (await post(small, previous, current)).status_code == 200

    @pytest.mark.parametrize("reason", ["starting", "queue_lost", "device_lost"])
    async def test_a_service_that_is_not_ready_refuses_before_reading(
        self, small: Small, previous: Pixels, current: Pixels, reason: str
    ) -> None:
        small.engine.state = Readiness(False, reason)
        answer = await post(small, previous, current)
        assert (answer.status_code, answer.json()["reason"]) == (503, reason)
        assert int(answer.headers["retry-after"]) >= 1
