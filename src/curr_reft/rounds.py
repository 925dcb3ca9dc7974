"""What the rounds of self-improvement are called, and where each stands in a run directory.

The first round has no number: its models are ``curr_rl`` and ``curr_reft``, its files stand where those of a run of one
round do. From the second on a name ends in its round (``curr_reft_round_2``), and the files stand in ``rounds/2/``.
"""

import re
from pathlib import Path

FIRST = 1
FOLDER = "rounds"
_FURTHER = re.compile(r"[2-9]|[1-9]\d+")
_NUMBERED = re.compile(rf"(curr_rl|curr_reft|self_improvement)_round_({_FURTHER.pattern})")


def named(name: str, number: int) -> str:
    """``name`` (a model, a training) in round ``number``."""
    return name if number == FIRST else f"{name}_round_{number}"


def parted(name: str) -> tuple[str, int]:
    """(the name without a round, the round). What has no number is of the first."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, FIRST)


def rl_stage(number: int, stage: str) -> str:
    """The name of the last stage when a further round trains it again."""
    return f"round-{number}-{stage}"


def rl_folder(run: Path, number: int) -> Path:
    """Of that stage; the first round has none, it goes on from the curriculum."""
    return run / FOLDER / str(number) / "open"


def improve_folder(run: Path, number: int) -> Path:
    """Of what a round samples, judges, keeps and learns."""
    return (run if number == FIRST else run / FOLDER / str(number)) / "self-improve"


def earlier(folder: Path) -> list[Path]:
    """The folders of the rounds before the one whose ``improve_folder`` is ``folder``, in order; of others, none."""
    number = folder.parent.name
    if folder.parent.parent.name != FOLDER or not _FURTHER.fullmatch(number):
        return []
    found = [improve_folder(folder.parents[2], each) for each in range(FIRST, int(number))]
    return [each for each in found if each.is_dir()]


def begun(run: Path) -> list[int]:
    """The further rounds that left a folder, in order."""
    names = (path.name for path in (run / FOLDER).glob("*"))
    return sorted(int(name) for name in names if _FURTHER.fullmatch(name))
