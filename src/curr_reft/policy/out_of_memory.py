"""Whether an error says that memory ran out, and making room after it."""

import contextlib
import ctypes
import gc
import sys

import torch

from curr_reft.policy.graphs import NotCapturedError
from curr_reft.policy.policy import Policy

_SAYS_SO = (
    "DefaultCPUAllocator: can't allocate memory",  # Linux
    "DefaultCPUAllocator: not enough memory",  # Windows
    "could not create a primitive",  # oneDNN on a CPU; it says no more, and the message to the user repeats it
    "CUDA error: out of memory",  # of what does not ask torch for its memory: a graph, a library
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less work at a time may go well where this failed.

    Where Linux kills a process for the memory it takes, no error is raised, and nothing here helps.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, NotCapturedError) and error.__cause__ is not None:
        # Where memory runs out in a capture, it may be that its end fails too, and says something else.
        return any(is_out_of_memory(each) for each in (error.__cause__, error.__cause__.__context__) if each)
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYS_SO)


def in_short(error: BaseException) -> str:
    """What memory ran out for, in a line."""
    return str(error).partition("\n")[0][:200] or type(error).__name__


def make_room(policy: Policy) -> None:
    """Gives back what can be computed again. To be called when the error and its traceback, which hold the tensors of
    what failed, are gone."""
    policy.drop_graphs()
    if policy.graphs is not None:
        policy.graphs.drop()
    gc.collect()
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        # What was freed stays with this process otherwise, where only blocks of the same kind find it.
        with contextlib.suppress(OSError, AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)
