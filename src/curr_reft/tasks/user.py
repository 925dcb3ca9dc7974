"""The tasks of the recipe at hand: the built-in ones, and the classes that its key ``tasks`` names."""

import inspect
import re
from collections.abc import Sequence
from typing import Any, cast

from curr_reft.data.styles import TASK_ALIASES
from curr_reft.errors import RecipeError
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Task
from curr_reft.tasks.limited import LimitedTask
from curr_reft.tasks.simple import TIMEOUT, SimpleTask, UserTask
from curr_reft.user_code import UserCode, load

RESERVED = {"mean", "total"}  # rows of the tables that tasks stand in
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MEMBERS = tuple(name for name in vars(Task) if not name.startswith("_"))
_own: dict[str, str] = {}  # names in TASKS that the recipe at hand brought along -> their calls


def use_tasks(calls: Sequence[str]) -> tuple[UserCode, ...]:
    """Make ``TASKS`` the built-in tasks and those of ``calls``, and no other recipe's. Returns their code.

    Every command begins with it, because a process works on one recipe at a time. Raises RecipeError, and then leaves
    ``TASKS`` as it was.
    """
    codes = tuple(load(call, f"tasks.{place}") for place, call in enumerate(calls))
    made: dict[str, LimitedTask] = {}
    for place, code in enumerate(codes):
        where = f"tasks.{place} = {code.call}"
        task = _task(code.value, where)
        if task.name in made or (task.name in TASKS and task.name not in _own):
            raise RecipeError(f"{where}: there is a task {task.name!r} already; give the class another name")
        made[task.name] = LimitedTask(task, _timeout(task, where), code.call)
    for name in _own:
        TASKS.pop(name, None)
    _own.clear()
    _own.update({name: task.call for name, task in made.items()})
    TASKS.update(cast(dict[str, Task], made))
    return codes


def own_tasks() -> dict[str, str]:
    """The recipe's own tasks: name -> as the recipe names the class."""
    return dict(_own)


def _timeout(task: Task, where: str) -> float:
    timeout = getattr(task, "timeout", TIMEOUT)
    if not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise RecipeError(f"{where}: its timeout is {timeout!r}; set it to seconds above 0")
    return float(timeout)


def _task(value: Any, where: str) -> Task:
    if not isinstance(value, type):
        raise RecipeError(f"{where} is no class; name a class that inherits from curr_reft.tasks.simple.SimpleTask")
    if issubclass(value, SimpleTask):
        missing = sorted(value.__abstractmethods__)
    else:
        missing = [name for name in _MEMBERS if not hasattr(value, name)]
    if missing:
        raise RecipeError(
            f"{where} lacks {', '.join(missing)}; a task inherits from curr_reft.tasks.simple.SimpleTask and writes "
            "parse, score, false_claim and distractors"
        )
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
        raise RecipeError(
            f"{where}: its name is {name!r}; set name to small letters, digits and underscores, not "
            f"{' or '.join(sorted(RESERVED))}"
        )
    if name in TASK_ALIASES:
        raise RecipeError(f"{where}: {name} is the reference data's name for {TASK_ALIASES[name]}; choose another name")
    _require_signatures(value, where)
    try:
        made = value()
    except Exception as error:
        raise RecipeError(f"{where} cannot be made without arguments: {type(error).__name__}: {error}") from error
    return UserTask(made) if isinstance(made, SimpleTask) else made


def _require_signatures(value: type, where: str) -> None:
    """Each method of a simple task must take what it will be given."""
    if not issubclass(value, SimpleTask):
        return
    for method in sorted(SimpleTask.__abstractmethods__):
        wanted = list(inspect.signature(getattr(SimpleTask, method)).parameters)
        try:
            inspect.signature(getattr(value, method)).bind(*wanted)
        except TypeError as error:
            raise RecipeError(f"{where}: {method} takes ({', '.join(wanted)}): {error}") from error
