"""A GPU that is none: tensors on the CPU that say they lie on ``cuda:0``, and are treated as a GPU would treat them.

What is computed is computed for good, so that outcomes can be compared. Beside it:

- an operation on tensors of both places raises, as it would there (0-dimensional tensors and indices excepted);
- every wait of the host for the device is noted, with the line that asked for it;
- ``torch.cuda.graph`` records the operations of a capture and nothing else; a wait inside raises. A replay computes
  them again on the same memory, after what lies in the graph's own memory, and in that of others of its pool, was
  overwritten. Memory from outside is not held by a graph: where it is gone, a replay raises;
- copies into pinned memory that nobody waits for arrive when their event is waited for, and hold other numbers before.

What it does not know: which kernels there are, streams that overlap, speed.
"""

import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
HERE = str(Path(__file__))

WAITS = {  # operations whose outcome, or its shape, the host has to know
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten.unique_consecutive,
    aten._unique2, aten.unique_dim, aten.bincount,
}  # fmt: skip
READERS = {
    getattr(torch.Tensor, name): name
    for name in ("tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__", "item")
}
MADE_IN_PYTHON = {
    torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.tensor, torch.as_tensor, torch.rand,
    torch.randn, torch.randint, torch.linspace, torch.eye, torch.empty_strided, torch.from_numpy, torch.scalar_tensor,
}  # fmt: skip


@dataclass(frozen=True)
class Wait:
    """The host waited for the device."""

    what: str
    file: str  # that asked for it, of this package or of a library
    ours: bool  # whether it is one of this package


@dataclass(eq=False)
class Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    gpu: "PretendedGpu"
    pool: Any = None
    steps: list[Callable[[], None]] = field(default_factory=list)
    own: dict[int, torch.Tensor] = field(default_factory=dict)  # a tensor of each storage made in the capture

    def replay(self) -> None:
        with self.gpu.as_it_is():
            for each in self.gpu.graphs:
                if each is self or each.pool == self.pool:
                    each.overwrite()
            for step in self.steps:
                step()

    def overwrite(self) -> None:
        for tensor in self.own.values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)

    def hold(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        """How a replay finds ``tensor``: memory from outside only as long as somebody else holds it."""
        storage = tensor.untyped_storage()
        shape = tensor.storage_offset(), tensor.size(), tensor.stride()
        if storage._cdata in self.own:
            return lambda: torch.empty(0, dtype=tensor.dtype).set_(storage, *shape)
        dtype, found = tensor.dtype, StorageWeakRef(storage)

        def find() -> torch.Tensor:
            alive = torch.UntypedStorage._new_with_weak_ptr(found.cdata)
            if alive is None:
                raise RuntimeError("a graph reads memory that was freed")
            return torch.empty(0, dtype=dtype).set_(alive, *shape)

        return find


class PretendedGpu:
    """Use by ``with pretended_gpu() as gpu``."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self.graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
        self.capturing: Graph | None = None
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []  # copies into pinned memory that are on their way
        self._here: dict[int, StorageWeakRef] = {}
        self._either: dict[int, StorageWeakRef] = {}  # made inside of an operation of torch
        self._pinned: dict[int, StorageWeakRef] = {}
        self._passing = False

    # Where tensors lie

    def put(self, outcome: Any, *, either: bool = False) -> Any:
        places = self._either if either else self._here
        for each in _tensors(outcome):
            storage = each.untyped_storage()
            places[storage._cdata] = StorageWeakRef(storage)
        return outcome

    def has(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._here

    def may_have(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._either

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self._pinned[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned

    # What happens

    def wait(self, what: str) -> None:
        if self._passing:
            return
        if self.capturing is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
        frames = [
            frame
            for frame in traceback.extract_stack()[:-1]
            if frame.filename != HERE and "/torch/" not in frame.filename
        ]
        asked = Path(frames[-1].filename)
        self.waits.append(Wait(what, asked.name, "curr_reft" in asked.parts))

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """Nothing is noted or recorded."""
        before, self._passing = self._passing, True
        try:
            yield
        finally:
            self._passing = before

    def compute(self, func: Any, args: Any, kwargs: Any, in_python: bool) -> Any:
        """One operation of torch."""
        inputs = _tensors((args, kwargs))
        packet = func.overloadpacket
        moves = packet is aten.copy_
        known = [each for each in inputs if each.dim() and not self.may_have(each)]
        here = [each for each in inputs if self.has(each)]
        away = [each for each in known if not self.has(each)]
        if here and away and not moves:
            if packet in (aten.index, aten.index_put, aten.index_put_) and self.has(args[0]):
                self.wait("an index on the host")
            else:
                raise RuntimeError(f"{func}: tensors on cuda:0 and on the cpu {[tuple(each.shape) for each in away]}")
        if here and packet in WAITS:
            self.wait(str(packet))
        if (
            packet is aten.repeat_interleave
            and here
            and kwargs.get("output_size") is None
            and func._overloadname != "self_int"
        ):
            self.wait("repeat_interleave without its size")
        if (
            packet in (aten.index, aten.index_put, aten.index_put_)
            and self.has(args[0])
            and any(each is not None and each.dtype == torch.bool for each in args[1])
        ):
            self.wait("a mask as an index")
        out = func(*args, **kwargs)
        if here:
            self.put(out)
        elif not inputs and not in_python:
            self.put(out, either=True)
        elif inputs and not known and not in_python:
            self.put([each for each in _tensors(out) if each.dim()], either=True)
        if self.capturing is not None:
            self._record(self.capturing, func, args, kwargs, out)
        return out

    def _record(self, graph: Graph, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        had = {each.untyped_storage()._cdata for each in _tensors((args, kwargs))}
        for each in _tensors(out):
            storage = each.untyped_storage()
            if storage._cdata not in had and storage._cdata not in graph.own:
                graph.own[storage._cdata] = torch.empty(0, dtype=each.dtype).set_(storage)
        held_args, held_kwargs = tree_map_only(torch.Tensor, graph.hold, (args, kwargs))
        outcomes = [graph.hold(each) for each in _tensors(out)]

        def step() -> None:
            found = _Found(held_args, held_kwargs)
            made = func(*found.args, **found.kwargs)
            for new, find in zip(_tensors(made), outcomes, strict=True):
                place = find()
                if new.untyped_storage()._cdata != place.untyped_storage()._cdata:
                    place.copy_(new)

        graph.steps.append(step)


class _Found:
    def __init__(self, args: Any, kwargs: Any) -> None:
        finder = type(lambda: None)
        self.args, self.kwargs = tree_map_only(finder, lambda find: find(), (args, kwargs))


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in tree_flatten(tree)[0] if isinstance(each, torch.Tensor)]


class _Kernels(TorchDispatchMode):
    """Every operation, below autograd."""

    def __init__(self, gpu: PretendedGpu, placement: "_Placement") -> None:
        super().__init__()
        self.gpu, self.placement = gpu, placement

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.gpu._passing or any(each.device.type == "meta" for each in _tensors((args, kwargs))):
            return func(*args, **kwargs)
        return self.gpu.compute(func, args, kwargs, self.placement.making)


class _Placement(TorchFunctionMode):
    """Every function of torch as Python calls it: who names a device, who moves, who reads."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu, self.making = gpu, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu = dict(kwargs or {}), self.gpu
        if func == torch.Tensor.device.__get__:
            return CUDA if gpu.has(args[0]) else func(*args, **kwargs)
        if func == torch.Tensor.is_cuda.__get__:
            return gpu.has(args[0])
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            return self._moved(func, *args, **kwargs)
        if func is torch.Tensor.copy_:
            return self._copied(*args, **kwargs)
        if func in READERS and isinstance(args[0], torch.Tensor) and gpu.has(args[0]):
            gpu.wait(f"{READERS[func]} on the host")
            with gpu.as_it_is():
                return func(*args, **kwargs)
        pinned = kwargs.pop("pin_memory", False)
        device = kwargs.get("device")
        on_gpu = device is not None and torch.device(device).type == "cuda"
        if on_gpu:
            kwargs["device"] = "cpu"
            if func in (torch.tensor, torch.as_tensor):
                gpu.wait("numbers of the host as a tensor")
        before, self.making = self.making, self.making or func in MADE_IN_PYTHON
        try:
            out = func(*args, **kwargs)
        finally:
            self.making = before
        if pinned:
            gpu.pin(out)
        return gpu.put(out) if on_gpu else out

    def _moved(self, func: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        gpu = self.gpu
        kwargs.pop("non_blocking", None)  # from memory that is not pinned the host waits anyway
        target: torch.device | None = None
        rest: list[torch.dtype] = []
        if func is torch.Tensor.cpu:
            target = torch.device("cpu")
        elif func is torch.Tensor.cuda:
            target = CUDA
        else:
            if isinstance(kwargs.get("device"), str | torch.device):
                target = torch.device(kwargs.pop("device"))
            for each in args:
                if isinstance(each, torch.Tensor):
                    target, _ = (CUDA if gpu.has(each) else each.device), rest.append(each.dtype)
                elif isinstance(each, str | torch.device):
                    target = torch.device(each)
                elif isinstance(each, torch.dtype):
                    rest.append(each)
            kwargs.pop("device", None)
        if target is not None and target.type not in ("cpu", "cuda"):
            return func(tensor, *args, **kwargs)
        here = gpu.has(tensor)
        there = here if target is None else target.type == "cuda"
        out = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
        if there == here:
            return out
        gpu.wait("a copy to the device" if there else "a copy to the host")
        with gpu.as_it_is():
            out = out.clone()
        return gpu.put(out) if there else out

    def _copied(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        gpu = self.gpu
        if gpu.has(target) != gpu.has(source) and source.dim():
            if non_blocking and gpu.is_pinned(target):
                with gpu.as_it_is():
                    gpu.pending.append((target, source.clone()))
                    return target.copy_(~source if source.dtype == torch.bool else -source - 1)
            gpu.wait("a copy between host and device")
        return target.copy_(source, non_blocking)


class _Event:
    gpu: PretendedGpu

    def __init__(self, **_: Any) -> None:
        self.copies: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record(self, stream: Any = None) -> None:
        self.copies, self.gpu.pending = self.gpu.pending, []

    def synchronize(self) -> None:
        with self.gpu.as_it_is():
            for target, source in self.copies:
                target.copy_(source)


class _Stream:
    def __init__(self, device: Any = None, **_: Any) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """While inside, ``cuda`` names a device, in this thread."""
    gpu = PretendedGpu()
    placement = _Placement(gpu)

    class CUDAGraph(Graph):
        def __init__(self) -> None:
            super().__init__(gpu)

    @contextmanager
    def capture(
        cuda_graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        assert gpu.capturing is None
        gpu.capturing, cuda_graph.pool = cuda_graph, pool
        gpu.graphs.add(cuda_graph)
        try:
            yield
        finally:
            gpu.capturing = None

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        yield

    patches = {
        "Event": type("Event", (_Event,), {"gpu": gpu}),
        "Stream": _Stream,
        "current_stream": lambda device=None: _Stream(),
        "set_stream": lambda stream: None,
        "stream": on,
        "CUDAGraph": CUDAGraph,
        "graph": capture,
        "graph_pool_handle": lambda: object(),
        "synchronize": lambda device=None: gpu.wait("synchronize"),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (64 << 30, 80 << 30),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    }
    with pytest.MonkeyPatch.context() as patch, placement, _Kernels(gpu, placement):
        for name, made in patches.items():
            patch.setattr(torch.cuda, name, made)
        run_backward = torch.autograd._engine_run_backward

        def with_placement(*args: Any, **kwargs: Any) -> Any:
            with placement:  # off inside of a function of torch, and backward calls Python: what is computed again
                return run_backward(*args, **kwargs)

        patch.setattr(torch.autograd, "_engine_run_backward", with_placement)
        # What gradient checkpointing compares is read inside of functions the one time, and outside the other.
        checks = torch.utils.checkpoint._allowed_determinism_checks_to_fns
        patch.setitem(checks, "default", lambda tensor: (tensor.shape, tensor.dtype))
        yield gpu
