"""Measures the code's own rules from its sources: names, docstrings, sizes, and the files of one prediction."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
from prometheus_client import CollectorRegistry

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from service.app_state import AppState
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.imaging.pictures import file_of, smooth

#: Lines of a function, and of a file, at most.
FUNCTION_LINES, FILE_LINES = 60, 350
#: Files on the way of a POST /v1/predict at most: those that hand it on, and all whose code runs (decision 61).
HANDING_ON, FILES_RUN = 26, 84
#: Calls on its way through the event loop at most: each costs microseconds, since the network has used all caches.
LOOP_CALLS = 290
ROOT = Path(__file__).parent.parent
#: What travels, and does nothing itself.
VALUES = ("service/core/", "service/engine/scheduling/entry.py", "service/engine/scheduling/request_state.py")
#: Participles that do not end in -ed or -en, or that do and are the usual offenders.
IRREGULAR = frozenset(
    re.findall(
        r"\w+",
        """
    begun bought brought built caught chosen come done drawn felt found given gone got held kept known left lost
    made meant met paid put read run said seen sent shown spent taken thought thrown told took came went won
    written
        """,
    )
)
#: Nouns and adjectives that end like participles.
NOUNS = frozenset(
    re.findall(
        r"\w+",
        """
    bed embed feed green hidden need open red screen seed shed speed token weed ten even often
        """,
    )
)
#: First words of a docstring that are verbs: in the imperative, or (a property, a test helper) in the third person.
VERBS = frozenset(
    re.findall(
        r"\w+",
        """
    abort accept accumulate acquire add adjust admit advance allocate allow announce answer append apply ask
    assemble assign attach authenticate await back balance batch begin bind bisect blend block bound build bury
    cache calculate call cancel capture cast catch check choose claim classify clear close collect combine compare
    compile complete compress compute concatenate configure connect construct consume continue convert convolve
    copy correct count create crop cut decide decode decompress decrease define delay delete deliver demand derive
    describe deserialise detach detect determine disable discard dispatch distribute divide do double download
    draw drain drive drop dump emit empty enable encode end enlarge enqueue ensure enter estimate evaluate evict
    execute expand expect expire explain export expose extend extract fail fall feed fetch fill filter find finish
    fit flatten flush fold follow forget format forward free freeze gather generate get give group guess halve
    hand handle hash hear hide hold identify ignore implement import increase infer inflate inform initialise
    insert inspect install interpolate interpret invert issue iterate join judge keep label launch lay learn leave
    let lift limit list listen load lock log look make mark match mean measure meet merge migrate mirror mix
    modify move multiply name normalise note notify offer omit open order pack pad parse pass pause perform pick
    pin place plan play plot point poll pop post predict prefer prepare present preserve prevent print produce
    profile project prove provide publish pull push put quantise queue raise rank read rebuild receive reclaim
    recognise record recover redirect reduce refuse register reject release reload remember remove render renew
    repeat replace replay report represent request require rescale reserve reset resize resolve respond restart
    restore resume retrieve retry return reuse reverse rewind rewrite rotate round route run sample save say scale
    scan schedule search see select send separate serialise serve set settle shape share shed shift show shrink
    shut shuffle sign signal simulate size skip sleep slice smooth solve sort split spread stack stand start state
    step stop store stream strip submit subtract succeed sum supervise supply suspend swap switch synchronise take
    tell terminate test throw tile time total trace track train transfer transform translate trim truncate try
    tune turn undo unpack update upload use validate verify view wait wake walk warm warn warp watch weigh
    withdraw wrap write yield zero
        """,
    )
)


@dataclass(frozen=True, slots=True)
class SourceModule:
    """One source file, parsed."""

    name: str
    path: Path
    tree: ast.Module
    lines: int


def modules(root: Path, *tops: str) -> list[SourceModule]:
    """Parse every module below `tops`, generated code aside."""
    parsed = []
    for top in tops:
        for path in sorted((root / top).rglob("*.py")):
            if "_pb2" in path.name:
                continue
            text = path.read_text()
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            parsed.append(SourceModule(name, path.relative_to(root), ast.parse(text), text.count("\n")))
    return parsed


def shared_classes(sources: list[SourceModule]) -> dict[str, list[str]]:
    """Return public class names that two modules or more define, with those modules."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in sources:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module.name)
    return {name: places for name, places in homes.items() if len(set(places)) > 1}


def is_participle(name: str) -> bool:
    """Tell whether a name is a bare participle: `found`, `given`, `parsed`."""
    if name in NOUNS:
        return False
    return name in IRREGULAR or re.fullmatch(r"[a-z]{2,}ed|[a-z]{3,}[tpks]en", name) is not None


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def local_names(sources: list[SourceModule]) -> tuple[int, list[str]]:
    """Count the names that functions bind (arguments and variables), and list the participles among them."""
    count, participles = 0, []
    for module in sources:
        for function in _functions(module.tree):
            bound = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            bound |= {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)}
            bound -= {"self", "cls", "_"}
            count += len(bound)
            participles += [f"{module.path}:{function.lineno} {name}" for name in sorted(bound) if is_participle(name)]
    return count, participles


def docstrings(sources: list[SourceModule]) -> tuple[int, int, list[str]]:
    """Count functions' docstrings and those that open with a verb; list those that open with a question word."""
    count, verbs, riddles = 0, 0, []
    for module in sources:
        for function in _functions(module.tree):
            if (text := ast.get_docstring(function)) is None:
                continue
            first = re.split(r"\W", text.lower(), maxsplit=1)[0]
            count += 1
            verbs += bool({first, first.removesuffix("s"), first.removesuffix("es")} & VERBS)
            if first in ("what", "which", "whether", "how"):
                riddles.append(f"{module.path}:{function.lineno} {text.splitlines()[0]}")
    return count, verbs, riddles


def function_lines(sources: list[SourceModule]) -> dict[str, int]:
    """Count the lines of every function, decorators aside, by its place."""
    return {
        f"{module.path}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for module in sources
        for function in _functions(module.tree)
    }


def file_lines(sources: list[SourceModule]) -> dict[str, int]:
    """Count the lines of every file, by its path."""
    return {str(module.path): module.lines for module in sources}


def longer(lines: dict[str, int], limit: int) -> dict[str, int]:
    """Return what has more than `limit` lines, longest first."""
    return {name: count for name, count in sorted(lines.items(), key=lambda item: -item[1]) if count > limit}


def files_of_a_prediction() -> dict[str, set[str]]:
    """Predict once over ASGI with a tiny network; return the files of service/ and model/ whose functions ran.

    Each with the other files that it called. Counts, on any thread, what runs between the request's arrival and its
    answer, not what ran at start.
    """
    calls: dict[str, set[str]] = {}
    recording = threading.Event()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>" and recording.is_set():
            if (file := _own_file(frame)) is None:
                return
            calls.setdefault(file, set())
            caller = frame.f_back
            while caller is not None and (calling_file := _own_file(caller)) is None:
                caller = caller.f_back  # a library's frame, between two of ours
            if caller is not None and calling_file is not None and calling_file != file:
                calls.setdefault(calling_file, set()).add(file)

    threading.setprofile(profile)  # for threads that start from now on: the device's and the codecs'
    sys.setprofile(profile)
    try:
        asyncio.run(_predict_once(recording))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def calls_of_a_prediction() -> int:
    """Count what the event loop's thread calls of service/ for one prediction over ASGI, resumed coroutines too."""
    recording, count = threading.Event(), 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and recording.is_set() and _own_file(frame) is not None

    sys.setprofile(profile)
    try:
        asyncio.run(_predict_once(recording))
    finally:
        sys.setprofile(None)
    return count


def _own_file(frame: FrameType) -> str | None:
    path = frame.f_code.co_filename
    return path.removeprefix(f"{ROOT}/") if path.startswith((f"{ROOT}/service/", f"{ROOT}/model/")) else None


def handing_on(calls: dict[str, set[str]]) -> list[str]:
    """Return the files that call others which do something, in order: these must be opened to follow a request.

    The others are taken by their names: they call nobody, or only values.
    """
    return sorted(
        file for file, others in calls.items() if not _is_value(file) and any(not _is_value(other) for other in others)
    )


def _is_value(file: str) -> bool:
    return file.startswith(VALUES)


async def _predict_once(recording: threading.Event) -> None:
    settings = Settings(warmup_sizes=((32, 48),), threads=1, device="cpu")
    metrics = Metrics(CollectorRegistry())
    network = DMVFN(ModelConfig.tiny()).eval()
    engine = Batcher(lambda: Predictor(network, device="cpu", threads=1), settings, metrics)
    # One thread, which the first request starts: a second one might start while the other request is recorded.
    codecs = Codecs(FrameLimits.of(settings), 1, metrics)
    await engine.start()
    try:
        transport = httpx.ASGITransport(build(AppState(settings, engine, codecs, metrics)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            frames = {"previous": file_of(smooth(32, 48), "PNG"), "current": file_of(smooth(32, 48), "PNG")}
            (await client.post("/v1/predict", files=frames)).raise_for_status()
            recording.set()
            (await client.post("/v1/predict", files=frames)).raise_for_status()
            recording.clear()
    finally:
        await engine.close()
        codecs.close()
