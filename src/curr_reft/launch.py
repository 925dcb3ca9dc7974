"""Several processes become one run, and one that fails takes the others with it: torchrun and accelerate launch.

Both start the same command several times and say by environment variables which process each is. Whoever fails first
says why, once, and ends; the others lose their connections to it, find that the cause is said, and end in silence.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from curr_reft import processes, stopping
from curr_reft.errors import ElsewhereError, ProcessError, UsageError

PATIENCE = timedelta(hours=24)
"""Time the others wait for what the main process does alone (a judge that answers slowly)."""

END_TOGETHER = timedelta(seconds=60)
"""Time a stopped process waits for the others, of which the main one still writes how the run ended."""

GRACE = 8  # seconds after which a process that should end is ended, whatever it waits for
SPEAK_AFTER = 2.0  # seconds in which who has the cause of a lost connection may say it first


@contextmanager
def joined() -> Iterator[None]:
    """While inside, this process is one of those that were launched together; alone, nothing happens.

    Raises ElsewhereError in place of an exception whose cause another process says, ProcessError for a process that was
    lost without a word, UsageError for a launch that cannot be followed (more processes than GPUs).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        yield
        return
    store, hosts = _join(size)
    try:
        refuse_unknown_launch()
        yield
    except stopping.Stopped:  # all of them, at the same place
        # A launcher takes the first exit code that is not 0 for a failure, and ends the others: they end together.
        processes.wait_for_all(END_TOGETHER)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _end_soon()
        _leave()
        raise
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, to the others of one that failed: it is ending
        _end_soon()
        raise _said_once(error, store, hosts)  # noqa: B904  (it is the error itself, or follows from it)
    finally:
        processes.join(None)
    _leave()


def _leave() -> None:
    from torch import distributed

    distributed.destroy_process_group()


def sharded() -> bool:
    """Whether the launcher asks for weights that are sharded over the processes (FSDP2)."""
    return processes.count() > 1 and _flag("ACCELERATE_USE_FSDP")


def _join(size: int) -> tuple[Any, list[tuple[str, int]]]:
    """Meet the others. Returns the store that they share, and the host and process id of each."""
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available() and not _flag("ACCELERATE_USE_CPU")
    if on_gpu:
        torch.cuda.set_device(_own_gpu(torch.cuda.device_count()))
    store, rank, size = next(iter(distributed.rendezvous("env://")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size)
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    processes.join(processes.Team(rank=rank, count=size, group=group))
    _end_on_signal()
    if rank > 0:
        logging.getLogger("curr_reft").setLevel(logging.ERROR)  # what is told is told once
    hosts = processes.gather((socket.gethostname(), os.getpid()))
    return distributed.PrefixStore("curr_reft", store), hosts


def _own_gpu(count: int) -> int:
    """Which of this machine's ``count`` GPUs is this process's own. Raises UsageError where there are too few, in the
    first process of all, and ElsewhereError in the others: NCCL knows no two processes on one GPU."""
    own = int(os.environ.get("LOCAL_RANK", "0"))
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", own + 1))
    if wanted <= count:
        return own
    if os.environ.get("RANK", "0") != "0":
        raise ElsewhereError(UsageError.exit_code)
    raise UsageError(
        f"the launcher starts {wanted} processes on this machine, and {count} of its GPUs can be seen; start one for "
        "each GPU (--num_processes, --nproc-per-node), or look at CUDA_VISIBLE_DEVICES"
    )


def refuse_unknown_launch() -> None:
    """Raises UsageError for settings of the launcher that would otherwise be passed over."""
    if _flag("ACCELERATE_USE_DEEPSPEED"):
        raise UsageError(
            "accelerate launch --use_deepspeed: DeepSpeed calls the model itself, and the packed row needs to; FSDP2 "
            "shards the same: recipes/accelerate/fsdp2-zero3.yaml (or -zero2.yaml), see docs/distributed.md"
        )
    if _flag("ACCELERATE_USE_MEGATRON_LM"):
        raise UsageError("accelerate launch --use_megatron_lm is not supported; see docs/distributed.md for what is")
    if _flag("ACCELERATE_USE_FSDP"):
        version = os.environ.get("FSDP_VERSION", "1")
        if version != "2":
            raise UsageError(
                f"accelerate launch --use_fsdp: fsdp_version is {version}, and must be 2 (--fsdp_version 2)"
            )
        if _flag("FSDP_OFFLOAD_PARAMS"):
            raise UsageError("accelerate launch: fsdp_offload_params must be false; for less memory use model.lora")
        if _flag("FSDP_ACTIVATION_CHECKPOINTING"):
            raise UsageError(
                "accelerate launch: fsdp_activation_checkpointing must be false; model.gradient_checkpointing of the "
                "recipe does the same"
            )
        # The launcher's default: transformers would then read weights in one process and leave the others' empty.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise UsageError(
            f"accelerate launch: mixed_precision is {precision}, and must be no: what the model computes in is "
            "model.dtype of the recipe (bfloat16 trains float32 copies)"
        )


def _flag(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1", "yes")


def _said_once(error: BaseException, store: Any, hosts: Sequence[tuple[str, int]]) -> BaseException:
    """What this process is to raise: ``error`` where it is the first to fail, else an error that is not printed."""
    if isinstance(error, ElsewhereError):
        return error
    lost = _is_lost_connection(error)
    if lost:
        time.sleep(SPEAK_AFTER)
    if not _first_to_fail(store):
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        silent = ElsewhereError(code)
        silent.__cause__ = error
        return silent
    # Launchers end the others of a process that is gone by SIGTERM, which is an interruption like any other.
    gone = _gone(hosts) if lost or isinstance(error, KeyboardInterrupt) else []
    if gone or lost:
        who = f"process {', '.join(map(str, gone))}" if gone else "a process on another machine"
        own = ProcessError(
            f"{who} of the {processes.count()} of this run ended without saying why (killed, out of memory, a machine "
            "that is gone?); see what the launcher says, and go on with --resume"
        )
        own.__cause__ = error
        return own
    return error


def _gone(hosts: Sequence[tuple[str, int]]) -> list[int]:
    """The processes of this machine that are no more."""
    gone = []
    for number, (host, process) in enumerate(hosts):
        if host == socket.gethostname():
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                gone.append(number)
    return gone


def _is_lost_connection(error: BaseException) -> bool:
    """Whether a collective failed: gloo and NCCL say so in the text of a RuntimeError."""
    from torch import distributed

    if isinstance(error, distributed.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection", "peer"))


def _first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # the store went with the process that kept it: there is no telling whether it spoke
        return True


def _end_soon() -> None:
    """Ends this process for certain, by the system: what it still does at its end may wait for those that are gone."""
    signal.alarm(GRACE)


def _end_on_signal() -> None:
    """Python acts on a signal between two of its own instructions, and a process that waits for others in a collective
    comes to none. A thread is woken at once, and ends the process that was asked twice if the handler does not."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        while number := os.read(heard, 1):
            if number[0] in stopping.LISTENED and stopping.is_repeated():
                signal.alarm(1)

    threading.Thread(target=listen, name="signals", daemon=True).start()
