"""A process that opens and processes images: ``python -m curr_reft.policy.image_worker DESCRIPTOR``.

It reads (maker, sources) from its channel and answers with what the maker made of them. It computes on one thread and
on no GPU, and ends when the channel does, that is with the process that asked, however that ended.
"""

import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from curr_reft.errors import DataError
from curr_reft.policy.image_wire import ClosedError, prepared, receive, send

LOOK_UP = 5.0
"""Seconds after which an idle worker looks whether its parent is still there: a process that the parent forked may hold
the other end of the channel open."""


def _answer(message: Any) -> tuple[Any, ...]:
    maker, sources = message
    try:
        made = maker.open(sources)
    except DataError as error:
        return ("refused", error.source, error.reason, error.problems)
    # As arrays, which pickle need not copy. A processor that makes tensors has imported torch; others need not wait.
    torch = sys.modules.get("torch")
    tensors = {name for name, value in made.items() if torch is not None and isinstance(value, torch.Tensor)}
    return ("made", {name: value.numpy() if name in tensors else value for name, value in made.items()}, tensors)


def main(descriptor: int) -> None:
    # Ctrl-C, a scheduler's SIGTERM and a closed terminal's SIGHUP go to every process of the job; the parent may want
    # to finish its step.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(fileno=descriptor) as channel:
        try:
            send(channel, prepared(("ready",)))
            while True:
                while not select.select([channel], [], [], LOOK_UP)[0]:
                    if os.getppid() != parent:
                        return
                try:
                    answer = prepared(_answer(receive(channel)))
                except ClosedError:
                    raise
                except Exception:  # a processor that this process cannot import, a bug: the parent makes it itself
                    answer = prepared(("failed", traceback.format_exc()))
                send(channel, answer)
        except ClosedError:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
