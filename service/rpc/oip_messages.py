"""Between messages of the Open Inference Protocol and our own values.

What they mean is decided in `service.serving.oip.requests`.
"""

from __future__ import annotations

from collections.abc import Mapping

from proto.inference import inference_pb2 as pb
from service.core.errors import InvalidRequest, TooLarge, Unsupported
from service.serving.oip.infer import InferResponse
from service.serving.oip.requests import InferRequest
from service.serving.oip.tensors import MAX_TYPED, Tensor, encodes_base64, refuse_shared_memory

#: Where a datatype's typed contents are.
CONTENTS = {"UINT8": "uint_contents", "UINT64": "uint64_contents", "BYTES": "bytes_contents"}


def request(message: pb.ModelInferRequest) -> InferRequest:
    """Read a request. Tensors must all be raw or all be typed."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(
            f"there are {len(raw)} raw contents for {len(message.inputs)} inputs", field="raw_input_contents"
        )
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=values(message.parameters),
        inputs=tuple(_tensor(tensor, raw[n] if raw else None) for n, tensor in enumerate(message.inputs)),
        outputs=tuple(_output(output) for output in message.outputs),
    )


def response(answer: InferResponse) -> pb.ModelInferResponse:
    """Write the answer's message: every output raw, in order, as stock clients expect."""
    message = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, value in answer.parameters.items():
        if isinstance(value, bool):
            message.parameters[name].bool_param = value
        else:
            message.parameters[name].string_param = value
    for tensor in answer.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        assert isinstance(tensor.data, bytes)
        message.raw_output_contents.append(tensor.data)
    return message


def _tensor(message: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    field = f"inputs.{message.name[:80]}"
    parameters = values(message.parameters)
    refuse_shared_memory(parameters, field)
    shape, is_base64 = tuple(message.shape), encodes_base64(parameters)
    if raw is not None:
        # Some clients put an empty contents message beside raw data.
        if message.contents.ByteSize():
            raise InvalidRequest(f"{message.name[:80]} is given raw and typed", field=field)
        return Tensor(message.name, message.datatype, shape, raw, is_base64)
    kind = CONTENTS.get(message.datatype)
    if kind is not None and (others := [name for name in _filled(message.contents) if name != kind]):
        why = f"{message.name[:80]} is {message.datatype}, whose elements stand in {kind}, not in {others[0]}"
        raise InvalidRequest(why, field=field)
    contents = getattr(message.contents, kind) if kind else []
    # Before the list is made: sixty megabytes of small numbers would become gigabytes of Python's.
    if len(contents) > MAX_TYPED:
        raise TooLarge(f"{message.name[:80]} has more than {MAX_TYPED} elements; send it raw", field=field)
    return Tensor(message.name, message.datatype, shape, list(contents), is_base64)


def _filled(contents: pb.InferTensorContents) -> list[str]:
    return [descriptor.name for descriptor, _ in contents.ListFields()]


def _output(message: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    parameters = values(message.parameters)
    refuse_shared_memory(parameters, f"outputs.{message.name[:80]}")
    if parameters.get("classification"):
        raise Unsupported("classification is not offered: no output is a class", field=f"outputs.{message.name[:80]}")
    return message.name


def values(parameters: Mapping[str, pb.InferParameter | pb.ModelRepositoryParameter]) -> dict[str, object]:
    """Return the parameters that have a value, as Python's own."""
    choices = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, kind) for name, value, kind in choices if kind}
