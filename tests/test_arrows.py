"""Imports point one way: what the arrows of docs/architecture.md allow, read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EDGES = ("service.rest", "service.rpc", "service.distributed")
FRONTEND, WORKER = "service.distributed.frontend", "service.distributed.worker"
#: What a front end over Redis loads, and what it must not: it has no device (docs/redis.md).
FRONTEND_ROOTS = ("service.app", FRONTEND)
DEVICE = ("service.engine", "model", "torch", "numba", "cv2")
#: But how costs are predicted, which needs no device: front ends price what they queue as workers do.
PRICING = ("service.engine.scheduling",)
#: What decides, and what it must not reach for.
PURE = (
    "service.core",
    "service.engine.scheduling",
    "service.imaging.codec",
    "service.imaging.image_header",
    "service.serving.jobs.fate",
    "service.serving.jobs.job",
    "service.serving.oip.models",
    "service.serving.oip.requests",
    "service.serving.oip.statistics",
    "service.serving.oip.tensors",
    "service.serving.streaming.concealment",
    "service.serving.streaming.freezes",
    "service.serving.streaming.link_clock",
    "service.serving.streaming.motion_trust",
    "service.serving.streaming.online_score",
    "service.serving.streaming.predictor_choice",
    "service.serving.streaming.show_at",
    "service.serving.streaming.session",
)
IMPURE = ("asyncio", "random", "socket", "threading", "time")
#: Only these import the module named.
OWNERS = {
    "torch": ("model", "service.engine"),
    "redis": ("service.distributed",),
    "obstore": (
        *("service.object_store", "service.distributed.broker.blob_store", "service.cli.clip_inputs"),
        "service.engine.versions.s3_weights",
    ),
    "fastapi": ("service.rest",),
    "starlette": ("service.rest",),
    "grpc": ("service.rpc", "client"),
    "prometheus_client": (
        *("service.telemetry.metrics", "service.telemetry.collectors", "service.telemetry.version_counts"),
        *("service.telemetry.route_counts", "service.telemetry.stream_quality", "service.telemetry.clip_counts"),
        *("service.rest.routes.operations", "service.app"),
    ),
}


def _within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def _sources(*tops: str) -> list[Path]:
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.py")) if "_pb2" not in path.name]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """Return every name that the file imports, wherever in it."""
    return _imported(ast.walk(ast.parse(path.read_text())), path)


def _imports_on_load(path: Path) -> set[str]:
    """Return the names imported as the module is loaded: not those in functions, nor for type checkers only."""
    return _imported(_run_on_load(ast.parse(path.read_text())), path)


def _run_on_load(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return
    yield node
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = node.orelse
    for child in children:
        yield from _run_on_load(child)


def _imported(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide an arrow"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.add(str(node.module))
    return names


def _loads(sources: dict[str, set[str]], roots: tuple[str, ...], *, wanted: tuple[str, ...]) -> set[str]:
    """Return those `wanted` names that loading `roots` imports, directly or through our own modules in `sources`."""
    names = {module for module in sources if _within(module, roots)}
    unread = list(names)
    while unread:
        for name in sources.get(unread.pop(), ()):
            parts = name.split(".")  # importing a.b.c loads a and a.b too
            for parent in {".".join(parts[:count]) for count in range(1, len(parts) + 1)} - names:
                names.add(parent)
                unread.append(parent)
    return {name for name in names if _within(name, wanted) and name != "service.engine" and not _within(name, PRICING)}


def _forbidden(module: str, imported: str) -> str | None:
    for library, owners in OWNERS.items():
        if _within(imported, (library,)) and not _within(module, owners):
            return f"only {', '.join(owners)} may import {library}"
    if (
        _within(module, ("service.core",))
        and imported.startswith("service.")
        and not _within(imported, ("service.core",))
    ):
        return "core knows nothing outside core"
    if _within(module, PURE) and (_within(imported, IMPURE) or _within(imported, ("model", "proto"))):
        return "what decides is pure: time and chance are arguments"
    if _within(module, ("service.serving",)) and _within(imported, ("service.engine",)):
        return "serving is handed an engine; it imports none"
    if _within(module, (FRONTEND,)) and _within(imported, (WORKER,)):
        return "front end and worker meet in the broker only"
    if _within(module, (WORKER,)) and _within(imported, (FRONTEND,)):
        return "front end and worker meet in the broker only"
    if _within(module, EDGES) and _within(imported, ("service.engine",)):
        is_distributed = _within(module, ("service.distributed",)) and _within(imported, PRICING)
        if not is_distributed:
            return "edges are handed an engine; only the way over Redis prices and shares by its pure scheduling"
    if _within(module, ("service.engine",)) and _within(imported, EDGES):
        return "the engine does not know the edges"
    for edge in EDGES:
        if _within(module, (edge,)):
            if any(_within(imported, (other,)) for other in EDGES if other != edge):
                return "edges never import one another"
            if _within(imported, ("model",)):
                return "edges reach the network through the engine only"
    if _within(module, ("service",)) and _within(imported, ("model.training", "model.evaluation")):
        return "the service neither trains nor evaluates"
    if _within(module, ("model",)) and _within(imported, ("service", "proto", "client")):
        return "the network knows tensors only"
    if _within(module, ("client",)) and _within(imported, ("service", "model")):
        return "the client needs proto, never the service"
    if _within(imported, ("service.app",)) and module != "service.__main__":
        return "only __main__ starts the app"
    return None


@pytest.mark.parametrize("path", _sources("model", "service", "client"), ids=_module)
def test_imports_follow_the_arrows(path: Path) -> None:
    module = _module(path)
    wrong = {name: why for name in sorted(_imports(path)) if (why := _forbidden(module, name))}
    assert wrong == {}


def test_what_a_front_end_over_redis_loads_reaches_no_device() -> None:
    sources = {_module(path): _imports_on_load(path) for path in _sources("model", "service")}
    # The package itself says how long OpenMP's threads may spin, and imports nothing but os.
    assert sources["model"] == {"os"}
    assert _loads(sources, FRONTEND_ROOTS, wanted=DEVICE) <= {"model"}
    engine_above = sources | {"service.backends": sources["service.backends"] | {"service.engine.batcher.Batcher"}}
    assert "torch" in _loads(engine_above, FRONTEND_ROOTS, wanted=DEVICE)
    lent = sources | {f"{FRONTEND}.results": {"service.engine.request_queue"}}
    assert "service.engine.request_queue" in _loads(lent, FRONTEND_ROOTS, wanted=DEVICE)


@pytest.mark.parametrize("script", ["deploy/image/compile-loops", "scripts/loops"])
def test_what_compiles_loops_ahead_loads_every_module_that_has_some(script: str) -> None:
    """Else each start compiles the others: in an image that nobody may write to, every single one."""
    sources = {_module(path): _imports_on_load(path) for path in _sources("model")}
    compiled = {
        _module(path) for path in _sources("model") if re.search(r"\n@(sequential_)?kernel\(", path.read_text())
    }
    compiled.add("model.inference.cpu.kernels")
    assert {"model.mixing.kernels", "model.inference.cpu.pixel_kernels"} < compiled
    commands = re.findall(r'-c "(.*?)"', (ROOT / script).read_text().replace("$1", "False,"), re.DOTALL)
    roots = _imported(ast.walk(ast.parse("\n".join(commands))), ROOT / script)
    assert compiled - _loads(sources, tuple(roots), wanted=("model",)) == set()


def test_an_import_in_a_function_or_for_type_checkers_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "lazy.py"
    path.write_text(
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import cv2\n"
        "class Late:\n    import redis\n    def load(self):\n        import numba\n"
    )
    assert _imports(path) == {"torch", "cv2", "redis", "numba"}
    assert _imports_on_load(path) == {"cv2", "redis"}


def test_the_check_itself_finds_a_wrong_arrow() -> None:
    assert _forbidden("service.core.types", "service.engine.batcher") == "core knows nothing outside core"
    assert _forbidden("service.engine.scheduling.batch_scheduler", "time") is not None
    assert _forbidden("service.engine.scheduling.batch_scheduler", "datetime") is None
    assert _forbidden("service.serving.streaming.live_stream", "service.engine.batcher") is not None
    assert _forbidden("service.distributed.frontend.engine", "service.distributed.worker.claims") is not None
    assert _forbidden("service.distributed.worker.worker", "service.distributed.frontend.engine") is not None
    assert _forbidden("service.rest.app", "service.rpc.server") == "edges never import one another"
    assert _forbidden("service.rest.app", "torch") is not None
    assert _forbidden("service.distributed.frontend.engine", "service.engine.request_queue") is not None
    assert _forbidden("service.distributed.frontend.engine", "service.engine.scheduling.cost_model") is None
    assert _forbidden("service.rest.app", "service.engine.scheduling.cost_model") is not None
    assert _forbidden("service.distributed.broker.submission", "service.engine.batcher") is not None
    assert _forbidden("service.distributed.worker.price", "service.engine.scheduling.cold_runs") is None
    assert _forbidden("service.engine.predictor", "torch") is None
