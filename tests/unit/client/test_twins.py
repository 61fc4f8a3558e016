"""The sync and async clients are one interface: whatever one takes, the other takes too."""

from __future__ import annotations

import inspect
import typing

import pytest
from dmvfn_client import AsyncClient, Client
from dmvfn_client.options import Options, PictureOptions
from dmvfn_client.rpc import GrpcClient
from dmvfn_client.rpc_aio import AsyncGrpcClient

from service.rest.formats.params import NAMES

#: What may differ: whose awaiting twin takes more, or is iterated otherwise.
FRAMES = "Iterable[Picture | Shot]"
ASYNC_ONLY = {
    f"{FRAMES} | AsyncIterable[Picture | Shot]": FRAMES,
    "AsyncGenerator[Answer, None]": "Iterator[Answer]",
    "AsyncClient": "Client",
    "AsyncGrpcClient": "GrpcClient",
}


def _shape(owner: type, name: str) -> list[tuple[str, str, object, str]]:
    """A method's parameters (name, kind, default, type) and what it returns, in words that twins share."""
    signature = inspect.signature(getattr(owner, name))
    rows = [(each.name, str(each.kind), each.default, str(each.annotation)) for each in signature.parameters.values()]
    rows.append(("return", "", None, str(signature.return_annotation)))
    return [(label, kind, default, ASYNC_ONLY.get(text, text)) for label, kind, default, text in rows]


def _public(owner: type) -> list[str]:
    return [name for name, value in vars(owner).items() if inspect.isfunction(value) and not name.startswith("_")]


@pytest.mark.parametrize(("sync", "twin"), [(Client, AsyncClient), (GrpcClient, AsyncGrpcClient)])
def test_twins_have_the_same_methods_with_the_same_parameters(sync: type, twin: type) -> None:
    names = _public(sync)
    assert names == _public(twin)
    assert {name: _shape(twin, name) for name in ("__init__", *names)} == {
        name: _shape(sync, name) for name in ("__init__", *names)
    }


def test_every_option_that_may_be_named_is_sent_and_every_option_of_the_service_may_be_named() -> None:
    typed = set(typing.get_type_hints(PictureOptions))
    assert typed == set(Options.__slots__)
    values: dict[str, typing.Any] = dict.fromkeys(typed, 1) | {"version": "v2"}
    assert set(Options(**values).fields()) == typed
    # The deadline is the call's `timeout`; maps and the form of the answer are parameters of their own.
    assert set(NAMES) - {"deadline_ms", "maps"} == typed
