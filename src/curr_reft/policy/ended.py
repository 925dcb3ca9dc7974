"""Which places of a batch have ended, without making the host wait for the device at every step.

On a GPU the flags of a step are copied while the next one is computed, and are looked at one step late: the host stays
one step ahead. A row that has ended computes one token more, which is cut away like all tokens after an end. On a CPU
nothing is gained, and flags are read at once.
"""

from collections.abc import Sequence

import torch


class Ended:
    """What the host knows of the flags of the device. ``late``: they are looked at one step after they were told."""

    def __init__(self, places: int, late: bool) -> None:
        self.late = late
        self.known = [False] * places
        self._told: tuple[torch.Tensor, torch.cuda.Event | None] | None = None

    def tell(self, ended_A: torch.Tensor) -> list[bool]:
        """Takes the flags of this step; returns, for each place, whether it is known to have ended."""
        if not self.late:
            self.known = ended_A.tolist()
            return self.known
        before, self._told = self._told, _copied(ended_A)
        if before is not None:
            flags_A, event = before
            if event is not None:
                event.synchronize()  # of the step before: the one that is being computed goes on
            self.known = flags_A.tolist()
        return self.known

    def move(self, spare: Sequence[bool]) -> None:
        """The batch is another one. ``spare``: places without a row, which count as ended."""
        self.known, self._told = list(spare), None


def looks_late(device: torch.device) -> bool:
    """Whether asking the device for a value costs more than a step that is computed in vain."""
    return device.type == "cuda"


def _copied(flags_A: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """The flags on the host, and the event after which they are there."""
    if flags_A.device.type != "cuda":
        return flags_A.clone(), None
    held = torch.empty(flags_A.shape, dtype=flags_A.dtype, pin_memory=True)
    held.copy_(flags_A, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(flags_A.device))  # which need not be that of the current device
    return held, event
