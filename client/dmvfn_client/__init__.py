"""Calls a DMVFN video prediction service: two frames in, the next ones out.

`Client` and `AsyncClient` speak REST; `GrpcClient` and `AsyncGrpcClient` (install dmvfn-client[grpc]) speak gRPC and
have live streams. All raise `DmvfnError`s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmvfn_client.aio import AsyncClient
from dmvfn_client.client import Client
from dmvfn_client.errors import (
    Busy,
    ConnectionFailed,
    DeadlineExceeded,
    DmvfnError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ServiceFailed,
    Unauthenticated,
)
from dmvfn_client.pictures import Picture, Shot
from dmvfn_client.retry import NEVER, Retry
from dmvfn_client.values import Frame, Job, Prediction

if TYPE_CHECKING:
    from dmvfn_client.rpc import GrpcClient
    from dmvfn_client.rpc_aio import AsyncGrpcClient
    from dmvfn_client.wire import Answer, Kind

#: The package's version, as in pyproject.toml.
__version__ = "0.1.0"

__all__ = [
    "NEVER",
    "Answer",
    "AsyncClient",
    "AsyncGrpcClient",
    "Busy",
    "Client",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DmvfnError",
    "Frame",
    "GrpcClient",
    "InvalidInput",
    "Job",
    "Kind",
    "NotFound",
    "PermissionDenied",
    "Picture",
    "Prediction",
    "Retry",
    "ServiceFailed",
    "Shot",
    "Unauthenticated",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """The gRPC side loads when it is first used: REST alone needs no grpcio."""
    homes = {"GrpcClient": "rpc", "AsyncGrpcClient": "rpc_aio", "Answer": "wire", "Kind": "wire"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        return getattr(importlib.import_module(f"dmvfn_client.{homes[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs more packages: pip install 'dmvfn-client[grpc]' ({error})") from error
