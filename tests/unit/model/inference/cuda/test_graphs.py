"""Recorded calls: when they are made, what they answer, what they keep. The recorder here replays by calling again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.inference.cuda.graphs import Function, Graphs, Recording, record


class Recorder:
    """Like a CUDA graph, a replay writes into the outputs of the recorded call."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def __call__(self, function: Function, inputs: tuple[Tensor, ...], memory: Any) -> Recording:
        self.made.append(memory)
        own = tuple(given.clone() for given in inputs)
        outputs = function(*own)

        def replay() -> None:
            for output, now in zip(outputs, function(*own), strict=True):
                output.copy_(now)

        return Recording(own, outputs, replay, memory=f"pool {len(self.made)}")


def _double(given: Tensor) -> tuple[Tensor]:
    return (given * 2,)


def test_the_second_call_of_a_key_is_recorded_and_every_call_answers_its_own_input() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder)
    answers = [graphs("double", _double, torch.tensor([float(i)]))[0] for i in range(4)]
    assert len(recorder.made) == 1
    # All at once, at the end: none was overwritten by a later one.
    assert [float(answer) for answer in answers] == [0, 2, 4, 6]


def test_recordings_share_memory_and_the_oldest_key_is_forgotten() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder, most=2)
    for key in ("a", "a", "b", "b", "c", "c", "a", "a"):
        graphs(key, _double, torch.ones(1))
    assert recorder.made == [None, "pool 1", "pool 2", "pool 3"]


def test_after_clear_a_key_begins_anew() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder)
    for _ in range(2):
        graphs("a", _double, torch.ones(1))
    graphs.clear()
    graphs("a", _double, torch.ones(1))
    assert recorder.made == [None]


def test_where_nothing_can_be_recorded_calls_are_plain_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def refuse(function: Function, inputs: tuple[Tensor, ...], memory: Any) -> Recording:
        tried.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = Graphs(refuse)
    answers = [float(graphs(key, _double, torch.tensor([3.0]))[0]) for key in "aaabbb"]
    assert (answers, tried) == ([6.0] * 6, [1])
    assert [said.levelname for said in caplog.records] == ["WARNING"]
    assert "stream is capturing" in caplog.text


if torch.cuda.is_available():

    def test_a_cuda_graph_answers_each_call_with_its_own_input() -> None:
        graphs = Graphs(record)
        given = [torch.full((4, 4), float(i), device="cuda") for i in range(4)]
        answers = [graphs("double", _double, each)[0] for each in given]
        assert [float(answer.mean()) for answer in answers] == [0, 2, 4, 6]


def test_want_of_memory_is_the_callers_to_handle() -> None:
    def full(function: Function, inputs: tuple[Tensor, ...], memory: Any) -> Recording:
        raise torch.OutOfMemoryError("out of memory")

    graphs = Graphs(full)
    graphs("a", _double, torch.ones(1))
    with pytest.raises(torch.OutOfMemoryError):
        graphs("a", _double, torch.ones(1))
