#!/usr/bin/env bash
# torch 2.13.0: two requests that overlap in one event loop leave autocast, no_grad or inference_mode on for good.
#
# A handler awaits something (a body, a lock, a neighbour) within `with torch.autocast("cpu", torch.bfloat16)`, no_grad or
# inference_mode. Two requests run it: one after the other, and so that the first begins first and ends first. Then, with
# no request left, two float32 matrices are multiplied in the same thread. Last, a coroutine that is decorated with
# `@torch.inference_mode()` says whether the mode is on within it.
#
# Output seen (CPython 3.11.7):
#     torch 2.13.0
#     manager         requests         product    gradient  error
#     autocast        one by one       float32    recorded  3.4e-07
#     autocast        overlapping      bfloat16   recorded  3.7e-03
#     no_grad         one by one       float32    recorded  3.4e-07
#     no_grad         overlapping      float32    lost      3.4e-07
#     inference_mode  one by one       float32    recorded  3.4e-07
#     inference_mode  overlapping      float32    lost      3.4e-07
#     a coroutine decorated with inference_mode runs in it: False
#
# Why it surprises: each `with` block was left, none failed, and nothing that is on was asked for. The state is the
# thread's, not the task's, and each block writes back what it saw when it began: the second began when the first had
# switched the mode on, ended after it, and so switches it on for whatever runs later in that thread. One request at a time,
# as in a test, all is well; from the first two that overlap, every answer of the process is computed in bfloat16, or its
# training records no gradients, until two others happen to undo it. The decorator on a coroutine does nothing, as
# calling it only makes the coroutine. Such blocks must not hold an `await`: the network's call belongs in a function
# of its own, or in a thread.
# The documentation calls these modes local to a thread. vllm-project/vllm pull request 49153 met the decorator;
# about overlapping coroutines nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0
cat >"$work/find.py" <<'PY'
import asyncio
import functools
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch

MANAGERS = {
    "autocast": functools.partial(torch.autocast, "cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


class Request:
    """One request; `run` enters the block at once and stays in it until `answer` is set."""

    def __init__(self, manager):
        self.manager, self.inside, self.answer = manager, asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self.run())

    async def run(self):
        with self.manager():
            self.inside.set()
            await self.answer.wait()

    async def end(self):
        self.answer.set()
        await self.task


async def serve(manager, overlapping):
    first = Request(manager)
    await first.inside.wait()
    if not overlapping:
        await first.end()
    second = Request(manager)
    await second.inside.wait()
    if overlapping:
        await first.end()
    await second.end()


def product():
    """The type of a product of float32 matrices, whether it has a gradient, and how far it is from the exact one."""
    left, right = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    result = left.requires_grad_() @ right
    exact = left.detach().double() @ right.double()
    error = ((result.detach().double() - exact).abs().max() / exact.max()).item()
    return str(result.dtype).removeprefix("torch."), result.requires_grad, error


def left_behind(manager, overlapping):
    asyncio.run(serve(manager, overlapping))
    return product()


@torch.inference_mode()
async def decorated():
    return torch.is_inference_mode_enabled()


print("torch", torch.__version__.split("+")[0])
print("manager         requests         product    gradient  error")
results = {}
for name, manager in MANAGERS.items():
    for overlapping in False, True:
        # In a thread of its own, for what is left on stays on in it.
        with ThreadPoolExecutor(1) as thread:
            kind, recorded, error = results[name, overlapping] = thread.submit(left_behind, manager, overlapping).result()
        when = "overlapping" if overlapping else "one by one"
        print(f"{name:15} {when:16} {kind:10} {'recorded' if recorded else 'lost':9} {error:.1e}")
within = asyncio.run(decorated())
print("a coroutine decorated with inference_mode runs in it:", within)
expected = {
    ("autocast", False): ("float32", True),
    ("autocast", True): ("bfloat16", True),
    ("no_grad", False): ("float32", True),
    ("no_grad", True): ("float32", False),
    ("inference_mode", False): ("float32", True),
    ("inference_mode", True): ("float32", False),
}
if {case: result[:2] for case, result in results.items()} != expected or within:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
