from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.system.e2e.process import ROOT

CLIENT = ROOT / "client"


@pytest.mark.parametrize("name", ["dmvfn_pb2.py", "dmvfn_pb2.pyi"])
def test_the_copy_of_the_contract_is_the_contract(name: str) -> None:
    """Made by `cp proto/dmvfn/v1/dmvfn_pb2.py* client/dmvfn_client/pb/`."""
    assert (CLIENT / "dmvfn_client" / "pb" / name).read_bytes() == (ROOT / "proto" / "dmvfn" / "v1" / name).read_bytes()


def test_the_wheel_is_built_alone_and_works_without_this_repository(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    # A copy: building writes beside the sources. No isolation: the build tool is here, and nothing is downloaded.
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path / "out"), str(_copy(tmp_path))]
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "out").glob("dmvfn_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"dmvfn_client"}
    assert {"dmvfn_client/py.typed", "dmvfn_client/pb/dmvfn_pb2.py"} <= set(names)
    import dmvfn_client

    assert wheel.name.split("-")[1] == dmvfn_client.__version__
    code = (
        f"import sys; sys.path = [p for p in sys.path if {str(ROOT)!r} != p and p]; "
        f"sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "import dmvfn_client as d; print(d.__file__, d.GrpcClient.__name__, 'torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
    ).stdout.split()
    assert told[0].startswith(str(tmp_path / "site"))
    assert told[1:] == ["GrpcClient", "False"]


def test_rest_alone_needs_no_grpc() -> None:
    code = (
        "import sys; sys.modules['grpc'] = None; import dmvfn_client as d; d.Client('http://x').close()\n"
        "try: d.GrpcClient\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CLIENT, timeout=60)
    assert "pip install 'dmvfn-client[grpc]'" in told.stdout


def test_everything_promised_is_there_and_documented() -> None:
    import dmvfn_client

    for name in dmvfn_client.__all__:
        assert getattr(dmvfn_client, name) is not None, name
    for path in (CLIENT / "dmvfn_client").glob("*.py"):
        for node in _public(ast.parse(path.read_text())):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def _public(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """What others can reach: top-level names and methods, not what stands inside functions."""
    holders: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    found = [node for holder in holders for node in holder.body]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in found if isinstance(node, kinds) and not node.name.startswith("_")]


def test_both_clients_offer_the_same() -> None:
    from dmvfn_client import AsyncClient, AsyncGrpcClient, Client, GrpcClient

    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    assert methods(GrpcClient) == methods(AsyncGrpcClient)
    assert methods(GrpcClient) == {"predict", "stream", "close"}


def test_an_option_that_may_be_said_is_sent_and_no_other_is_taken() -> None:
    from dmvfn_client import Client, GrpcClient
    from dmvfn_client.options import Options, PictureOptions

    assert set(PictureOptions.__annotations__) == set(Options.__slots__)
    frame = np.zeros((32, 32, 3), np.uint8)
    with Client() as rest, GrpcClient() as grpc:
        calls: list[Any] = [
            lambda: rest.predict(frame, frame, step=2),  # type: ignore[call-arg]
            lambda: rest.predict_many([(frame, frame)], step=2),  # type: ignore[call-arg]
            lambda: rest.submit([frame, frame], image_quality=90, step=2),  # type: ignore[call-arg]
            lambda: rest.predict_video(b"", "out.mp4", ahead=1, step=2),  # type: ignore[call-arg]
            lambda: grpc.predict(frame, frame, step=2),  # type: ignore[call-arg]
            lambda: next(grpc.stream([frame], step=2)),  # type: ignore[call-arg]
        ]
        for call in calls:
            with pytest.raises(TypeError, match="step"):
                call()


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CLIENT, tmp_path / "client", ignore=shutil.ignore_patterns("build", "*.egg-info")))
