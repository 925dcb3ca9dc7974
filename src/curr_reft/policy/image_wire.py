"""Messages between this process and those that process its images: pickles, with the arrays beside them.

Both ends of the channel run the same code and belong to one run, and nothing touches a file. An array is sent as its
bytes and read into the memory it stays in, so that 70 MB of pixels are copied once on each side.
"""

import pickle
import socket
import struct
from typing import Any

import numpy as np

_HEAD = struct.Struct("!Q")


class ClosedError(Exception):
    """The other end is gone. Never reaches a user."""


def prepared(message: Any) -> list[memoryview]:
    """A message as the parts that are sent. Raises what pickle raises for something it cannot take."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    head = b"".join(map(_HEAD.pack, [len(parts), *(part.nbytes for part in parts)]))
    return [memoryview(head), *parts]


def send(channel: socket.socket, parts: list[memoryview]) -> None:
    """Raises ClosedError, TimeoutError."""
    try:
        for part in parts:
            channel.sendall(part)
    except TimeoutError:
        raise
    except OSError as error:
        raise ClosedError from error


def receive(channel: socket.socket) -> Any:
    """Raises ClosedError, TimeoutError, or what unpickling raises."""
    (count,) = _HEAD.unpack(_read(channel, _HEAD.size))
    lengths = [each[0] for each in _HEAD.iter_unpack(_read(channel, _HEAD.size * count))]
    body, *buffers = [_read(channel, length) for length in lengths]
    return pickle.loads(body, buffers=buffers)


def _read(channel: socket.socket, length: int) -> memoryview:
    data = np.empty(length, np.uint8).data  # not filled with zeros first, as a bytearray is
    done = 0
    while done < length:
        try:
            read = channel.recv_into(data[done:])
        except TimeoutError:
            raise
        except OSError as error:
            raise ClosedError from error
        if not read:
            raise ClosedError
        done += read
    return data
