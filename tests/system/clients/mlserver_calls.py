"""Sends what MLServer's codecs make, over REST and gRPC. Run by its Python: mlserver_calls.py HTTP GRPC FOLDER.

MLServer has no client of its own: its codecs make requests and read answers, any HTTP library or its stub sends them.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

import grpc
import numpy as np
from mlserver.codecs import Base64Codec, NumpyCodec, NumpyRequestCodec
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, RequestInput, RequestOutput

from tests.system.clients.attempts import Attempts

OPTIONS = {"blocks": 3}


class Session:
    """Both transports, and the requests that the codecs make."""

    def __init__(self, http: str, channel: grpc.Channel, folder: str) -> None:
        self.attempts = Attempts("mlserver", folder)
        self.http = f"http://{http}"
        self.stub = GRPCInferenceServiceStub(channel)

    def request(self, **options: object) -> InferenceRequest:
        """One pair by NumpyCodec, PRED only."""
        tensor = NumpyCodec.encode_input("FRAMES", self.attempts.frames)
        outputs = [RequestOutput(name="PRED", parameters=Parameters(content_type="np"))]
        return InferenceRequest(
            id="m", inputs=[tensor], outputs=outputs, parameters=Parameters(**{**OPTIONS, **options})
        )

    def images(self, *, use_bytes: bool) -> InferenceRequest:
        """One pair of files by Base64Codec: texts for JSON, bytes for gRPC."""
        names = zip(("FRAME0", "FRAME1"), self.attempts.files, strict=True)
        inputs = [Base64Codec.encode_input(name, [file], use_bytes=use_bytes) for name, file in names]
        return InferenceRequest(inputs=inputs)

    def over_rest(self, request: InferenceRequest, model: str = "dmvfn", **how: bool) -> InferenceResponse:
        """The answer over REST; `how` goes to pydantic."""
        body = request.model_dump_json(**how)
        url = f"{self.http}/v2/models/{model}/infer"
        asked = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return InferenceResponse.model_validate_json(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["error"]) from error

    def over_grpc(self, request: InferenceRequest, model: str = "dmvfn", *, raw: bool = False) -> InferenceResponse:
        """The answer over gRPC; `raw` sends tensors as bytes."""
        message = converters.ModelInferRequestConverter.from_types(request, model_name=model, use_raw=raw)
        return converters.ModelInferResponseConverter.to_types(self.stub.ModelInfer(message, timeout=60))


def pred(answer: InferenceResponse) -> np.ndarray:
    """PRED as NumpyCodec reads it."""
    return np.asarray(NumpyCodec.decode_output(answer.outputs[0]))


def one_input(session: Session) -> InferenceRequest:
    """A pair by NumpyRequestCodec, its only tensor named as the model's is."""
    request = NumpyRequestCodec.encode_request(session.attempts.frames)
    tensor: RequestInput = request.inputs[0]
    tensor.name = "FRAMES"
    return InferenceRequest(inputs=[tensor], parameters=Parameters(content_type="np", **OPTIONS))


def main(http: str, address: str, folder: str) -> None:
    """Everything, one after the other."""
    with grpc.insecure_channel(address) as channel:
        session = Session(http, channel, folder)
        tried = session.attempts.tried
        tried("REST NumpyCodec", lambda: pred(session.over_rest(session.request())))
        tried("REST NumpyCodec, nulls left out", lambda: pred(session.over_rest(session.request(), exclude_none=True)))
        tried("REST NumpyRequestCodec", lambda: pred(session.over_rest(one_input(session))))
        tried("REST headers among the parameters", lambda: pred(session.over_rest(session.request(headers={"x": "y"}))))
        tried("REST Base64Codec", lambda: picture(session.over_rest(session.images(use_bytes=False), "dmvfn_image")))
        tried("gRPC ServerReady", lambda: session.stub.ServerReady(pb.ServerReadyRequest()).ready)
        tried("gRPC ModelReady", lambda: session.stub.ModelReady(pb.ModelReadyRequest(name="dmvfn")).ready)
        # Field 6 holds texts in the protocol and in Triton, parameters in MLServer's own contract.
        session.attempts.refused(
            "gRPC ModelMetadata, whose field 6 it reads otherwise than the protocol",
            lambda: session.stub.ModelMetadata(pb.ModelMetadataRequest(name="dmvfn")),
            "Exception deserializing response",
        )
        tried("gRPC NumpyCodec, typed", lambda: pred(session.over_grpc(session.request())))
        tried("gRPC NumpyCodec, raw", lambda: pred(session.over_grpc(session.request(), raw=True)))
        tried("gRPC Base64Codec", lambda: picture(session.over_grpc(session.images(use_bytes=True), "dmvfn_image")))
        session.attempts.refused("REST steps=99", lambda: session.over_rest(session.request(steps=99)), "steps must be")
        session.attempts.refused("gRPC steps=99", lambda: session.over_grpc(session.request(steps=99)), "steps must be")


def picture(answer: InferenceResponse) -> bool:
    """Tell whether the first output is a PNG, as Base64Codec reads it."""
    return bool(Base64Codec.decode_output(answer.outputs[0])[0].startswith(b"\x89PNG"))


if __name__ == "__main__":
    main(*sys.argv[1:])
