"""The chat template of a model folder, tried once in a forked process under limits before anything else renders it.

A template is a program from whoever made the folder. transformers renders it in Jinja's sandbox, which forbids
attributes and calls but limits neither time nor memory. The trial renders one short chat; a template that
misbehaves only on another text is not found here, but its errors are still reported by row (``processor.py``).
"""

import contextlib
import json
import os
import resource
import selectors
import signal
import time
from collections.abc import Callable

from curr_reft.errors import UsageError

CPU_SECONDS = 5  # a template of a published model renders in milliseconds
WALL_SECONDS = 120.0  # for a busy machine; the limit on processor time is what ends a loop
MEMORY = 1 << 30  # bytes beyond what this process holds
LONGEST = 1 << 20  # characters around a short question


def check_template(render: Callable[[], str], path: str) -> None:
    """Call ``render`` (one short chat by the template of the folder ``path``) in a forked process under limits.

    Raises UsageError when it raises, exceeds a limit or writes more than ``LONGEST`` characters.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing may return into the caller's code: this is a copy of it.
        try:
            os.close(reading)
            os.write(writing, json.dumps(_tried(render)).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with open(reading, "rb", buffering=0) as pipe:
            answer = _read(pipe, WALL_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    problem = json.loads(answer) if answer else f"does not end within {CPU_SECONDS} s"
    if problem:
        raise UsageError(
            f"model.path: the chat template of {path} {problem}; repair chat_template.jinja (or chat_template in "
            "tokenizer_config.json), or take the folder from a source you trust"
        )


def _tried(render: Callable[[], str]) -> str:
    """Return what is wrong with ``render``; an empty text if nothing is. Called in the forked process alone."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
        signal.signal(each, signal.SIG_DFL)
    spent = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + CPU_SECONDS + 1, int(spent) + CPU_SECONDS + 1))
    with contextlib.suppress(OSError, ValueError):  # macOS has neither /proc nor this limit
        with open("/proc/self/statm", encoding="ascii") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    try:
        length = len(render())
    except MemoryError:
        return f"asks for more than {MEMORY >> 20} MiB of memory"
    except Exception as error:
        return f"fails: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return f"writes {length:,} characters around a question of a few words" if length > LONGEST else ""


def _read(pipe: object, seconds: float) -> bytes:
    """Return what the process writes until it ends; nothing if it is killed or ``seconds`` pass."""
    ends, answer = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        while (left := ends - time.monotonic()) > 0:
            if not selector.select(left):
                break
            chunk = os.read(pipe.fileno(), 4096)  # type: ignore[attr-defined]
            if not chunk:
                return answer
            answer += chunk
    return b""
