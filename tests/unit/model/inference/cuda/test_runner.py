"""The GPU path answers what the published network answers; where it would not, plain torch serves."""

from __future__ import annotations

import copy
import gc
import math
import weakref

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.inference import predict as inference
from model.inference.cpu import runner as cpu_runner
from model.inference.cuda import runner as cuda_runner
from model.inference.cuda.runner import CudaRunner, proved
from tests.golden import vectors
from tests.unit.model.gpu import DEVICE, accelerate


@pytest.fixture(scope="module")
def tiny() -> DMVFN:
    """One block of each scale: what the interpreter is given to do takes it seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = DMVFN(ModelConfig(scales=(4, 2, 1), widths=(8,) * 3, spatial_width=4, routing_width=8)).eval()
    with torch.no_grad():
        for i in range(3):
            network.block(i).lastconv.weight.mul_(3)
    return network.to(DEVICE)


def _pair(count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    previous = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    return previous, previous.roll((1, 2), (2, 3))


def test_four_samples_of_the_published_network_with_four_routes() -> None:
    pairs = vectors.tensor("batch4.x").to(DEVICE)
    routes = [[bit == "1" for bit in bits] for bits in vectors.meta()["cases"]["batch4"]["routes"]]
    ready = accelerate(vectors.network())
    answer = ready.predict(pairs[:, :3], pairs[:, 3:], routes)
    expected = vectors.tensor("batch4.pred")
    empty = [not any(route) for route in routes]
    assert any(empty), "the case holds a sample without a block: published = older frame, ours = newer"
    expected[empty] = pairs[empty, 3:].cpu()
    torch.testing.assert_close(answer.frame.cpu(), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(answer.flow.cpu(), vectors.tensor("batch4.flow"), atol=1e-4, rtol=0)
    torch.testing.assert_close(answer.mask.cpu(), vectors.tensor("batch4.mask"), atol=1e-4, rtol=0)
    found = ready.probabilities(pairs[:, :3], pairs[:, 3:]).cpu()
    torch.testing.assert_close(found, vectors.tensor("batch4.prob"), atol=5e-6, rtol=0)


@pytest.mark.parametrize(("kind", "least"), [(torch.float32, 90.0), (torch.float16, 60.0), (torch.bfloat16, 50.0)])
def test_smaller_types_stay_close_to_float32(tiny: DMVFN, kind: torch.dtype, least: float) -> None:
    agreement = accelerate(tiny, kind).agreement(tiny)
    assert least <= agreement < math.inf


def test_a_sample_alone_equals_itself_beside_others(tiny: DMVFN) -> None:
    ready = accelerate(tiny)
    previous, current = _pair(3, 16, 32)
    routes = [[True] * 3, [True, False, True], [False, False, True]]
    together = ready.predict(previous, current, routes)
    for i, route in enumerate(routes):
        alone = ready.predict(previous[i : i + 1], current[i : i + 1], [route])
        torch.testing.assert_close(together.flow[i], alone.flow[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.frame[i], alone.frame[0], atol=2e-5, rtol=0)


@pytest.fixture
def in_use(tiny: DMVFN, monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.inference.predict` runs the GPU path, whatever the device."""
    ready = accelerate(tiny)
    monkeypatch.setattr(cpu_runner, "of", lambda *_: None)
    monkeypatch.setattr(cuda_runner, "of", lambda *_: ready)


@pytest.mark.parametrize(("size", "scale"), [((19, 45), 1.0), ((34, 50), 0.5)])
def test_any_size_and_scale_as_plain_torch_does_it(
    tiny: DMVFN, in_use: None, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], scale: float
) -> None:
    previous, current = _pair(2, *size)
    routes = torch.tensor([[True] * 3, [False] * 3])
    ours = inference.predict(tiny, previous, current, routes, scale)
    probable = inference.probabilities(tiny, previous, current, scale)
    monkeypatch.setattr(cuda_runner, "of", lambda *_: None)
    plain = inference.predict(tiny, previous, current, routes, scale)
    torch.testing.assert_close(ours.frame, plain.frame, atol=5e-5, rtol=0)
    torch.testing.assert_close(ours.flow[0], plain.flow[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(probable, inference.probabilities(tiny, previous, current, scale), atol=1e-5, rtol=0)
    assert torch.equal(ours.frame[1], current[1])


def test_it_serves_only_where_it_answers_what_plain_torch_answers(
    tiny: DMVFN, caplog: pytest.LogCaptureFixture
) -> None:
    assert proved(tiny, lambda: accelerate(tiny), calls=1) is not None
    assert caplog.text == ""
    other = copy.deepcopy(tiny)

    def wrong() -> CudaRunner:
        ready = accelerate(other)
        with torch.no_grad():
            other.block(0).lastconv.weight.mul_(-20)
        return ready

    assert proved(other, wrong, calls=1) is None
    assert "dB from plain torch" in caplog.text


def test_a_network_is_not_kept_alive_by_what_was_made_of_it(tiny: DMVFN) -> None:
    own = copy.deepcopy(tiny)
    ready, gone = accelerate(own), weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None
    assert ready.probabilities(*_pair(1, 16, 16)).shape == (1, 3)


def test_what_cannot_be_compiled_is_not_used(tiny: DMVFN, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> CudaRunner:
        raise OSError("no compiler found")

    assert proved(tiny, broken) is None
    assert "plain torch serves: OSError: no compiler found" in caplog.text


def test_it_runs_what_lies_on_a_gpu_and_nothing_else(tiny: DMVFN, caplog: pytest.LogCaptureFixture) -> None:
    """On a machine with a GPU this also records CUDA graphs, and is told if anything was wrong with them."""
    previous, current = _pair(1, 16, 16)
    assert cuda_runner.of(copy.deepcopy(tiny).cpu(), previous.cpu(), current.cpu()) is None
    assert (cuda_runner.of(tiny, previous, current) is not None) == (DEVICE.type == "cuda")
    assert caplog.text == ""
