"""`python -m model`: train, evaluate, convert and count; each verb lives beside what it drives."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

#: Verb -> the module that knows its arguments (`configure`) and does it (`main`). Imported only when asked for:
#: `flops` must not need a video library.
VERBS = {
    "train": ("model.cli.train", "train the network by a run file, or continue a run"),
    "train-head": ("model.cli.train_mixture", "train a mixing head by a run file, or continue a run"),
    "evaluate": ("model.cli.evaluate", "score weights and baselines on clips or a benchmark, and write a report"),
    "moments": ("model.cli.moments", "compare one prediction carried to several moments with rollouts, in dB and time"),
    "streams": ("model.cli.streams", "tell what the frames of a stream teach its mixture, in dB and sharpness"),
    "convert": ("model.cli.convert", "rewrite a checkpoint as safetensors with metadata"),
    "flops": ("model.cli.flops", "multiply-adds of a route at a frame size"),
    "export": ("model.export", "write the full route as ONNX or torch.export, checked equal"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        "python -m model", description="The DMVFN network: train it, score it, convert it."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    verb_name = next((word for word in arguments if not word.startswith("-")), None)
    for verb, (module, summary) in VERBS.items():
        sub = verbs.add_parser(verb, help=summary, description=summary.capitalize() + ".")
        if verb == verb_name:
            implementation = importlib.import_module(module)
            implementation.configure(sub)
            sub.set_defaults(main=implementation.main)
    namespace = parser.parse_args(arguments)
    code: int = namespace.main(namespace)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
