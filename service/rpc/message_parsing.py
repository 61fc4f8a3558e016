"""Parses what came as a message, or says why it is none. Knows nothing of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.core.errors import InvalidRequest, ServiceError, TooLarge
from service.rpc import long_fields
from service.rpc.message_fields import check_fields

#: Messages whose pictures are read where they lie.
WITH_PICTURES = frozenset({"dmvfn.v1.PredictRequest", "dmvfn.v1.StreamPredictRequest"})


class UnparsedMessage:
    """Stands where a message should be that is not there: `error` says why."""

    def __init__(self, error: ServiceError) -> None:
        self.error = error


def lenient_parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Parse as `parse`, but give `UnparsedMessage` for other bytes: gRPC would answer INTERNAL, as if we failed.

    Likewise for a message of so many fields that parsing it would take memory and time that its bytes do not show.
    Messages of WITH_PICTURES come as `ReadMessage`.
    """
    descriptor = getattr(getattr(parse, "__self__", None), "DESCRIPTOR", None)
    has_pictures = descriptor is not None and descriptor.full_name in WITH_PICTURES

    def parse_leniently(data: bytes) -> Any:
        try:
            if descriptor is not None:
                check_fields(data, descriptor)
            return long_fields.read(data, parse, descriptor) if has_pictures else parse(data)
        except TooLarge as error:
            return UnparsedMessage(error)
        except Exception:  # a protobuf runtime may raise what it likes
            return UnparsedMessage(InvalidRequest("the message is not what this method takes"))

    return parse_leniently
