"""The calls of stock clients as a table: docs/clients.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.system.e2e.process import ROOT

REPORT = ROOT / "docs" / "clients.md"
HEAD = """\
# Stock clients

What came of every call of six clients of the [Open Inference Protocol](api.md#open-inference-protocol), unmodified,
against a started service; written by `make clients`, which fetches them, pinned, and fails where a result is not right.
“the service's pixels”: `PRED` was what `POST /v1/predict` answers to the same frames. “refused”: with these words, as
it should be. tritonclient, perf_analyzer and open-inference-openapi are in the default tests, too.

| client | version | call | result |
| --- | --- | --- | --- |
"""
TAIL = """
Two have faults that no server can mend. PyTriton's `FuturesModelClient` with a `grpc://` address speaks HTTP to it from
its second thread on: give it `max_workers=1`, or the HTTP address. MLServer's gRPC contract has parameters where the
protocol has texts, the `properties` of a model's metadata, so that its stub reads no such answer. KServe's REST client
reads an error's text only where the answer is `application/json` and nothing else: ours below `/v2` are. Files
(`dmvfn_image`) it cannot read from binary answers, which it takes for texts: ask for JSON, or by gRPC
(`findings/kserve-binary-bytes-refused.sh`).
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One call of one client, and what came of it."""

    client: str
    version: str
    call: str
    right: bool
    result: str


def table(rows: Sequence[Row]) -> str:
    """Return the document."""
    lines = []
    for row in rows:
        result = (row.result if row.right else f"**wrong**: {row.result}").replace("|", "/")
        lines.append(f"| {row.client} | {row.version} | {row.call} | {result} |\n")
    return HEAD + "".join(lines) + TAIL
