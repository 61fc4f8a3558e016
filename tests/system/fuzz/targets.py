"""What is fuzzed: every parser that reads what strangers send, with honest inputs to start from.

The only permitted outcomes are a value and a ServiceError.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.inference import inference_pb2 as v2_pb
from service.core import auth
from service.core.api_keys import KeyRing
from service.core.errors import InvalidFrame
from service.imaging import codec
from service.imaging.codec import FrameLimits
from service.rest.formats import job_body, multipart, negotiation, oip_messages, params, predict_body, stream_messages
from service.rpc import messages
from service.rpc import oip_messages as rpc_v2
from service.rpc.call import readable
from service.rpc.message_reading import lenient_parser
from service.serving.oip import requests as oip_requests
from service.serving.prediction import Picture
from service.serving.streaming.messages import FrameMessage, InvalidMessage
from service.serving.video.clip import VideoError
from service.serving.video.y4m import Y4mSource
from service.settings import Settings
from tests.unit.imaging.pictures import exif, file_of, noise, save, smooth

LIMITS = FrameLimits(max_bytes=2**20, max_pixels=128 * 128, min_side=4, max_side=128)
SETTINGS = Settings()
PICTURES = [
    *(file_of(noise(12, 16), format) for format in ("PNG", "JPEG", "WEBP", "BMP", "PPM")),
    *(file_of(noise(12, 16)[..., 0], format) for format in ("PNG", "BMP", "PPM", "JPEG")),
    save(Image.fromarray(smooth(12, 16)).quantize(8), "PNG", transparency=bytes(3)),
    save(Image.fromarray(smooth(12, 16)).quantize(8), "BMP"),
    save(Image.fromarray(smooth(12, 16)).convert("RGBA"), "WEBP", lossless=True, exif=exif(5)),
    save(Image.fromarray(smooth(12, 16)).convert("LA"), "PNG", exif=b"Exif\0\0" + exif(6)),
    save(Image.fromarray(smooth(12, 16)), "PNG", save_all=True, append_images=[Image.fromarray(noise(12, 16))]),
    file_of(smooth(24, 32), "JPEG", progressive=True, exif=b"Exif\0\0" + exif(8)),
]
FORM = b"--X\r\nContent-Disposition: form-data; name=\"previous\"; filename*=utf-8''a\r\n\r\nab\r\n"
FORM += b"--X\r\nContent-Disposition: form-data; name=current\r\n\r\n\r\n--X\r\n"
FORM += b'Content-Disposition: form-data; name="steps"\r\n\r\n2\r\n--X--\r\n'
JSONS = [
    b'{"previous": "aGk=", "current": "data:image/png;base64,aGk=", "steps": 2, "scale": 0.5, "seed": null}',
    b'{"previous": "\\ud83d\\ude00", "maps": "float16", "route": "100100100", "blocks": 1e5, "x": [[[{}]]]}',
    b'{"frames": ["aGk=", "aGk=", "aGk="], "route": "budget", "blocks": 3}',
]
ACCEPTS = [b"text/html, image/*;q=0.8, */*;q=0.1", b"application/json;charset=utf-8;q=1.000, image/png;q=0"]
PIXELS = noise(16, 16).tobytes()
TENSOR = {"name": "FRAMES", "datatype": "UINT8", "shape": [1, 2, 4, 4, 3]}
FILES = [{"name": name, "datatype": "BYTES", "shape": [1, 1], "data": ["aGk="]} for name in ("FRAME0", "FRAME1")]
SEED = {"name": "SEED", "datatype": "INT64", "shape": [1, 1]}
V2 = [
    json.dumps({"id": "a", "inputs": [{**TENSOR, "data": [7] * 96}], "parameters": {"steps": 2}}).encode(),
    json.dumps({"inputs": [{**TENSOR, "data": [[[[[1, 2, 3]] * 4] * 4] * 2]}], "outputs": [{"name": "PRED"}]}).encode(),
    json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 96}}]}).encode() + bytes(96),
    json.dumps({"inputs": [*FILES, {**SEED, "data": [5]}], "parameters": {"format": "ppm"}}).encode(),
]
STREAM = [
    b'{"type": "start", "horizon": 2, "policy": "all", "window": 3, "frame_deadline_ms": 50, "format": "png"}',
    b'{"type": "reset"}',
    *(
        struct.pack("<I", len(head)) + head + body
        for head, body in (
            (b'{"frame_id": "a", "presentation_time_us": 7, "height": 16, "width": 16}', PIXELS),
            (b'{"type": "frame"}', PICTURES[1]),
        )
    ),
]
PICTURE = pb.Frame(raw=pb.RawPicture(pixels=PIXELS, height=16, width=16, stride=48), frame_id="a")
PAIR = pb.PredictRequest(previous=PICTURE, current=pb.Frame(encoded=PICTURES[0]), options=pb.Options(scale=0.5))
MESSAGES = [
    pb.StreamPredictRequest(start=pb.StreamStart(policy=pb.POLICY_ALL, window=2)).SerializeToString(),
    pb.StreamPredictRequest(frame=PICTURE).SerializeToString(),
]
INFER = v2_pb.ModelInferRequest(
    model_name="dmvfn",
    id="a",
    inputs=[v2_pb.ModelInferRequest.InferInputTensor(name="FRAMES", datatype="UINT8", shape=[1, 2, 16, 8, 3])],
    raw_input_contents=[PIXELS],
)
INFER.parameters["steps"].int64_param = 2
CLIP = b"YUV4MPEG2 W16 H12 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(288) + b"FRAME\n" + bytes(288)


def _options(data: bytes) -> object:
    pairs = [part.partition("=") for part in data.decode("latin-1").split("&")]
    return params.parse(params.merge([[(name, value) for name, _, value in pairs]]), None, SETTINGS)


KEYS = KeyRing.of_pairs((("alice", "key-of-alice"),))


def _identify(data: bytes) -> object:
    return KEYS.identify(auth.bearer(data.decode("latin-1")))


def _job(data: bytes) -> object:
    return job_body._sorted(job_body._json(data, 8), 8)


def _tensors(data: bytes) -> object:
    """Told where its JSON ends where that can be seen, as an honest client would."""
    end = data.find(b"}]}") + 3
    length = str(end) if 3 <= end < len(data) else None
    model = "dmvfn_image" if b"FRAME0" in data else "dmvfn"
    return oip_requests.parse(oip_messages.read(data, length, model, "").request, max_batch=8, max_steps=4)


def _inflated(data: bytes) -> object:
    return oip_messages.decompress(data, "gzip" if data[:1] == b"\x1f" else "deflate", 2**16, lambda nbytes: None)


def _text(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    begun = stream_messages.start(text, max_steps=4, max_deadline_ms=1000)
    return begun or stream_messages.is_end(text) or stream_messages.incoming(text)


def _decoded(picture: Picture) -> object:
    if picture.shape is None:
        return codec.decode(picture.data, LIMITS, "previous")
    return codec.from_raw(picture.data, *picture.shape, LIMITS, "previous", picture.stride)


def _told(incoming: object) -> object:
    if isinstance(incoming, InvalidMessage):
        raise incoming.error
    return _decoded(incoming.picture) if isinstance(incoming, FrameMessage) else incoming


def _message(kind: type[Any], data: bytes) -> Any:
    return readable(lenient_parser(kind.FromString)(data))


def _pair(data: bytes) -> object:
    message = _message(pb.PredictRequest, data)
    chosen = messages.options(message.options, 4)
    pictures = messages.picture(message.previous, "previous"), messages.picture(message.current, "current")
    return chosen, [_decoded(picture) for picture in pictures], messages.time_us(message.current)


def _streamed(data: bytes) -> object:
    message = _message(pb.StreamPredictRequest, data)
    if message.WhichOneof("message") == "start":
        return messages.stream(message.start, max_steps=4, max_deadline_ms=1000)
    return _told(messages.incoming(message))


def _infer(data: bytes) -> object:
    return oip_requests.parse(rpc_v2.request(_message(v2_pb.ModelInferRequest, data)), max_batch=8, max_steps=4)


def _clip(data: bytes) -> object:
    try:
        return list(Y4mSource(io.BytesIO(data), limits=LIMITS))
    except VideoError as error:
        raise InvalidFrame(str(error)) from None


Target = tuple[list[bytes], Callable[[bytes], object], int]

#: Name -> seeds, the parser, and how often it is tried (pictures have the most to go wrong).
TARGETS: dict[str, Target] = {
    "picture": (PICTURES, lambda data: codec.decode(data, LIMITS, "previous"), 12),
    "form": ([FORM], lambda data: multipart.parse(data, "multipart/form-data; boundary=X"), 2),
    "form type": (
        [b"multipart/form-data; boundary=\"X\"; charset*=utf-8'en'%00"],
        lambda data: multipart.parse(FORM, data.decode("latin-1")),
        1,
    ),
    "json": (JSONS, predict_body._json, 3),
    "job json": (JSONS, _job, 2),
    "accept": (ACCEPTS, lambda data: negotiation.choose(data.decode("latin-1"), ["image/png"]), 1),
    "authorization": ([b"Bearer key-of-alice"], _identify, 1),
    "options": ([b"steps=2&scale=0.5&route=budget&blocks=3", b"seed=1&maps=float16"], _options, 1),
    "v2 body": (V2, _tensors, 4),
    "v2 coding": ([gzip.compress(V2[0]), zlib.compress(V2[0])], _inflated, 1),
    "v2 message": ([INFER.SerializeToString()], _infer, 3),
    "pair message": ([PAIR.SerializeToString()], _pair, 3),
    "stream message": (MESSAGES, _streamed, 2),
    "websocket text": (STREAM[:2], _text, 2),
    "websocket frame": (STREAM[2:], lambda data: _told(stream_messages.incoming(data)), 2),
    "y4m": ([CLIP], _clip, 1),
}
