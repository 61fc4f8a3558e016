"""The committed code is what the contracts generate, and the contracts carry the protocol's numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.dmvfn.v1 import dmvfn_pb2
from proto.inference import inference_pb2, model_config_pb2

ROOT = Path(__file__).parents[3]
#: Message, field, number, as facts/serving.md §c.3 lists them; one from each place where they could slip.
NUMBERS = [
    (inference_pb2.ModelInferRequest, "raw_input_contents", 7),
    (inference_pb2.ModelInferRequest.InferInputTensor, "contents", 5),
    (inference_pb2.ModelInferResponse, "raw_output_contents", 6),
    (inference_pb2.InferParameter, "uint64_param", 5),
    (inference_pb2.InferTensorContents, "uint_contents", 4),
    (inference_pb2.InferTensorContents, "bytes_contents", 8),
    (inference_pb2.ModelStreamInferResponse, "infer_response", 2),
    (inference_pb2.ModelMetadataResponse, "outputs", 5),
    (inference_pb2.ModelStatistics, "response_stats", 9),
    (inference_pb2.InferStatistics, "cache_miss", 8),
    (inference_pb2.RepositoryModelLoadRequest, "parameters", 3),
    (inference_pb2.TraceSettingRequest, "model_name", 2),
    (model_config_pb2.ModelConfig, "max_batch_size", 4),
    (model_config_pb2.ModelConfig, "dynamic_batching", 11),
    (model_config_pb2.ModelConfig, "model_transaction_policy", 19),
    (model_config_pb2.ModelConfig, "response_cache", 24),
    (model_config_pb2.ModelInput, "optional", 8),
    (model_config_pb2.ModelOutput, "dims", 3),
]


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    tool = "grpc_tools" if _installed("grpc_tools") else None
    if tool is None:
        assert not os.environ.get("CI"), "grpcio-tools is missing in CI"
        pytest.skip("grpcio-tools is not installed")
    bin_ = Path(sys.executable).parent.parent
    subprocess.run([ROOT / "scripts" / "proto", tmp_path], check=True, env={**os.environ, "VENV": str(bin_)})
    assert _generated(tmp_path, tmp_path) == _generated(ROOT / "proto", ROOT)


def _generated(folder: Path, root: Path) -> dict[Path, str]:
    # Not what Python compiled of them.
    return {path.relative_to(root): path.read_text() for path in folder.rglob("*_pb2*.py*") if path.suffix != ".pyc"}


def _installed(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


@pytest.mark.parametrize(("message", "field", "number"), NUMBERS, ids=lambda value: getattr(value, "__name__", None))
def test_fields_have_the_protocols_numbers(message: type, field: str, number: int) -> None:
    assert message.DESCRIPTOR.fields_by_name[field].number == number  # type: ignore[attr-defined]


def test_the_services_offer_what_their_clients_call() -> None:
    ours = dmvfn_pb2.DESCRIPTOR.services_by_name["PredictionService"]
    assert [method.name for method in ours.methods] == ["Predict", "StreamPredict"]
    theirs = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert len(theirs.methods) == 20
    assert theirs.full_name == "inference.GRPCInferenceService"
