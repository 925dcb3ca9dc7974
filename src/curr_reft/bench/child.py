"""A measured process: ``python -m curr_reft.bench.child SIDE SETTINGS`` (as JSON), driven through its stdin."""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from curr_reft.bench.shape import Shape
from curr_reft.bench.work import Options, sizes_of, step_work


def main(side: str, settings: dict[str, Any]) -> None:
    """Builds one side, says that it is ready, and makes steps as ordered."""
    torch.set_num_threads(settings["threads"])
    shape, options, steps = Shape(**settings["shape"]), Options(**settings["options"]), settings["steps"]
    # All that the side needs is imported before the baseline of memory is taken.
    from curr_reft.bench import gemm, ours, subject
    from curr_reft.bench.link import Link, machine, peak_memory

    libraries = ["torch", "transformers", "curr-reft"]
    trainer_class: Any = None
    if side != "ours":
        from trl import GRPOTrainer

        from curr_reft.bench import peer

        libraries += ["trl", "accelerate"]
        trainer_class = GRPOTrainer
        if side == "adapter":
            from curr_reft.integrations.trl import SharedPrefixGRPOTrainer

            trainer_class = SharedPrefixGRPOTrainer
    baseline = peak_memory()
    model = subject.build_model()
    sizes = sizes_of(model.config)
    ready = {
        "baseline": baseline,
        "weights": subject.weights_sha256(model),
        "machine": machine(),
        "versions": {name: version(name) for name in libraries},
    }
    link = Link(lambda: gemm.seconds_of(step_work(sizes, shape, options, shared=side != "peer")))
    with tempfile.TemporaryDirectory() as folder:
        if side == "ours":
            policy = ours.build_policy(model, options)
            link.send(ready)
            ours.run(policy, shape, options, steps, Path(folder), link)
        else:
            trainer = peer.build_trainer(
                trainer_class, model, subject.build_processor(), shape, steps, options, Path(folder)
            )
            link.send(ready)
            peer.run(trainer, shape, link)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
