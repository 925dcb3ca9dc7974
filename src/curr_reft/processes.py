"""The processes that carry out one run together: how they agree, divide work and put it together again.

Every process walks through the same run. What must be decided or written once is done by the main process (rank 0) and
told to the others (``on_main``); what is long is dealt out (``deal``), and what came of it is put together everywhere
(``gather``). So all hold the same state at every step, and none asks which it is. In a run of one process, all of this
is the plain call and nothing is imported. Who starts, joins and ends the processes is in ``launch.py``.

What travels between them is pickled by torch.distributed and never touches a file: the processes of a run trust each
other, as they run the same code.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from curr_reft import stopping
from curr_reft.errors import CurrReftError, ElsewhereError, UsageError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes of a run, as one of them sees it."""

    rank: int
    count: int
    group: Any  # of torch.distributed, for objects, with time to wait for what the main process does alone


_team: Team | None = None


def join(team: Team | None) -> None:
    """From here on this process is one of ``team``; None: it works alone."""
    global _team
    _team = team
    stopping.decide_together(team is not None)


def rank() -> int:
    """The number of this process; 0 is the main one."""
    return 0 if _team is None else _team.rank


def count() -> int:
    """How many processes carry out the run."""
    return 1 if _team is None else _team.count


def is_main() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def on_main(make: Callable[[], T]) -> T:
    """What ``make`` returns in the main process, in all of them. All must call this; none goes on before it is done.

    Raises what ``make`` raised in the main process, ElsewhereError in the others.
    """
    if _team is None:
        return make()
    from torch import distributed

    told: list[Any] = [None, None, None]
    if not is_main():
        distributed.broadcast_object_list(told, src=0, group=_team.group)
        code, value, asked = told
        if code is not None:
            raise ElsewhereError(code)
        stopping.agreed(asked)
        return value
    try:
        value = make()
    except Exception as error:
        code = error.exit_code if isinstance(error, CurrReftError) else CurrReftError.exit_code
        distributed.broadcast_object_list([code, None, None], src=0, group=_team.group)
        raise
    asked = stopping.asked()
    distributed.broadcast_object_list([None, value, asked], src=0, group=_team.group)
    stopping.agreed(asked)
    return value


def gather(own: T) -> list[T]:
    """The ``own`` of every process, by rank. All must call this; when one was asked to stop, all leave here if they
    may (``stopping.released``)."""
    if _team is None:
        return [own]
    from torch import distributed

    all_of_them: list[Any] = [None] * _team.count
    distributed.all_gather_object(all_of_them, (own, stopping.asked()), group=_team.group)
    stopping.agreed(next((asked for _, asked in all_of_them if asked is not None), None))
    return [one for one, _ in all_of_them]


def wait_for_all(limit: timedelta) -> None:
    """Return once all processes are here, or after ``limit`` without them."""
    if _team is None:
        return
    from torch import distributed

    with contextlib.suppress(RuntimeError):  # it took too long, or one of them is gone
        distributed.monitored_barrier(_team.group, timeout=limit)


def add_up(own: Mapping[str, float]) -> dict[str, float]:
    """The sums of the numbers of all processes, name by name; a name that some lack counts as 0 there."""
    if _team is None:
        return dict(own)
    parts = gather(own)
    return {
        name: sum(part.get(name, 0.0) for part in parts) for name in {name: None for part in parts for name in part}
    }


def deal(costs: Sequence[float]) -> list[list[int]]:
    """Places of ``costs`` for every process, in order, so that the sums are about equal: the costliest first, each to
    the one that has least. A function of the costs alone, so that every process deals the same."""
    hands: list[list[int]] = [[] for _ in range(count())]
    if len(hands) == 1:
        return [list(range(len(costs)))]
    loads = [0.0] * len(hands)
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        least = min(range(len(hands)), key=lambda number: (loads[number], len(hands[number]), number))
        hands[least].append(place)
        loads[least] += costs[place]
    return [sorted(hand) for hand in hands]


def in_order(hands: Sequence[Sequence[int]], parts: Sequence[Sequence[T]]) -> list[T]:
    """What the processes made of their ``hands`` (of ``deal``), in the order of the whole."""
    placed = {
        place: one for hand, part in zip(hands, parts, strict=True) for place, one in zip(hand, part, strict=True)
    }
    return [placed[place] for place in range(len(placed))]


def require_same(what: str, own: str | None) -> None:
    """Raises UsageError where a process holds another ``own`` than the main one: it reads other files."""
    values = gather(own)
    others = [number for number, value in enumerate(values) if value != values[0]]
    if others:
        raise UsageError(
            f"{what} is not the same in all processes of the run: process {others[0]} has {values[others[0]]}, process "
            f"0 has {values[0]}; give every machine the same files"
        )
