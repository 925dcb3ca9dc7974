"""Decode steps recorded once and replayed: on CUDA as graphs, so that a token costs one launch instead of thousands.

A step is recorded for each bucket of shapes (``buckets.py``) when it is first needed, and kept with the policy: over
rollouts and steps, as training changes weights in place. Where a weight lies elsewhere than it did (a model moved,
merged, loaded anew), or its adapters are switched, what was recorded reads the wrong numbers, so all is dropped. On a
CPU there is nothing to save; recording there runs the same function on the same buffers, which is how it is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from curr_reft.policy.buckets import Bucket
from curr_reft.policy.fixed_layout import Buffers, CacheShape, FixedLayout
from curr_reft.policy.lean import LeanText

MOST_BYTES = 8 << 30
"""Buffers stay between rollouts, beside what training needs. A rollout that asks for more decodes without graphs."""

MOST_STEPS = 64
"""Recorded at a time. A graph takes memory of its own, and prompts of any length ask for more shapes than come back."""

WARM = 2  # runs before a capture: libraries choose kernels and take their workspaces


class NotCapturedError(RuntimeError):
    """A step could not be captured as a graph; it can still be launched."""


@dataclass(frozen=True, kw_only=True)
class RecordedStep:
    """One decode step: fill ``layout``'s tokens and number, replay, read its logits."""

    layout: FixedLayout
    replay: Callable[[], None]


@dataclass(eq=False)
class StepGraphs:
    """The recorded steps of a policy."""

    device: torch.device
    captured: int = 0  # how often a step was recorded
    _steps: dict[Bucket, RecordedStep] = field(default_factory=dict)
    _buffers: Buffers | None = None
    _weights: tuple[Any, ...] = ()
    _pool: Any = None  # memory that all graphs share
    _stream: Any = None  # on which all are captured: libraries keep a workspace for every stream they were called on

    def begin(self, core: Any, shape: CacheShape, most: Bucket) -> None:
        """Before a rollout that needs buckets up to ``most``: keeps what is recorded if it still holds."""
        weights = _identity(core)
        if self._buffers is None or weights != self._weights or not self._buffers.has_room(shape, most):
            self.drop()  # first, so that old and new buffers are never held together
            self._buffers, self._weights = Buffers(shape, most, self.device), weights
            if self.device.type == "cuda":
                self._pool = torch.cuda.graph_pool_handle()
                self._stream = self._stream or torch.cuda.Stream(self.device)
        self._buffers.clear()

    def layout(self, bucket: Bucket) -> FixedLayout:
        """The buffers as a step of this shape sees them."""
        assert self._buffers is not None
        return self._buffers.view(bucket)

    def step(self, core: Any, lean: LeanText, layout: FixedLayout, axes: int) -> RecordedStep:
        """The step of the layout's bucket, recorded now if it is not. The layout holds the inputs of a step: recording
        may compute it. Raises NotCapturedError."""
        recorded = self._steps.pop(layout.bucket, None)
        if recorded is None:
            head = core.get_output_embeddings()

            def run() -> None:
                cos, sin = lean.rotations((layout.positions_A + layout.step)[:, None], axes)
                layout.logits_AV.copy_(head(lean.step(layout.tokens_A, layout.masked(), cos[:, 0], sin[:, 0])))

            recorded = RecordedStep(layout=layout, replay=record(run, self.device, self._pool, self._stream))
            self.captured += 1
        self._steps[layout.bucket] = recorded  # the last of all, as the one that was used last
        if len(self._steps) > MOST_STEPS:
            self._steps.pop(next(iter(self._steps)))
        return recorded

    def drop(self) -> None:
        """Forgets all steps and frees their memory."""
        self._steps.clear()
        self._buffers, self._weights, self._pool = None, (), None


def record(run: Callable[[], None], device: torch.device, pool: Any = None, stream: Any = None) -> Callable[[], None]:
    """A function that does what ``run`` does again, on the tensors it reads and writes as they are then.

    On CUDA a graph, captured on ``stream`` (none: a new one). What ``run`` makes in between lies in ``pool``, which
    several graphs share that are not replayed at the same time. Raises NotCapturedError.
    """
    if device.type != "cuda":
        run()
        return run
    current, stream = torch.cuda.current_stream(device), stream or torch.cuda.Stream(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(current):  # comes back to it where a capture cannot be ended: torch would stay on the other
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                run()
        current.wait_stream(stream)
        try:
            # Other threads (images of the next step) may go on meanwhile: what they do is no part of the graph.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
        except RuntimeError as error:
            raise NotCapturedError(str(error).partition("\n")[0]) from error
    return graph.replay


def _identity(core: Any) -> tuple[Any, ...]:
    """What a recorded step depends on besides its buffers: where each weight lies, and which adapters speak."""
    text = core.get_decoder()
    weights = [*text.parameters(), *core.get_output_embeddings().parameters()]
    adapters = [
        (module.disable_adapters, tuple(module.active_adapters), tuple(module.merged_adapters))
        for module in text.modules()
        if hasattr(module, "merged_adapters")  # a layer of peft
    ]
    return (*((each.data_ptr(), each.dtype) for each in weights), *adapters)
