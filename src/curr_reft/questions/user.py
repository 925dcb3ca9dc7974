"""The forms of the recipe at hand: the built-in ones, and the classes that its key ``forms`` names."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

from curr_reft.errors import RecipeError
from curr_reft.questions.forms import FORMS, Form
from curr_reft.tasks.user import use_tasks
from curr_reft.user_code import UserCode, load

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_METHODS = tuple(name for name, value in vars(Form).items() if inspect.isfunction(value) and not name.startswith("_"))
_own: set[str] = set()  # names in FORMS that the recipe at hand brought along


def use_own(tasks: Sequence[str], forms: Sequence[str] = ()) -> tuple[UserCode, ...]:
    """Make the tasks and forms known those of the house and of these calls, and no other recipe's. Returns their code.

    Every command begins with it, because a process works on one recipe at a time. Raises RecipeError.
    """
    return (*use_tasks(tasks), *_use_forms(forms))


def _use_forms(calls: Sequence[str]) -> tuple[UserCode, ...]:
    codes = tuple(load(call, f"forms.{place}") for place, call in enumerate(calls))
    made: dict[str, Form] = {}
    for place, code in enumerate(codes):
        where = f"forms.{place} = {code.call}"
        form = _form(code.value, where)
        if form.name in made or (form.name in FORMS and form.name not in _own):
            raise RecipeError(f"{where}: there is a form {form.name!r} already; give the class another name")
        made[form.name] = form
    for name in _own:
        FORMS.pop(name, None)
    _own.clear()
    _own.update(made)
    FORMS.update(made)
    return codes


def _form(value: Any, where: str) -> Form:
    """The form that a class makes. Raises RecipeError."""
    if not isinstance(value, type):
        raise RecipeError(f"{where} is no class; name a class that inherits from one of curr_reft.questions.forms")
    missing = [name for name in _METHODS if not callable(getattr(value, name, None))]
    if missing:
        raise RecipeError(
            f"{where} lacks {', '.join(missing)}; inherit from Open, Binary or Choice of curr_reft.questions.forms and "
            "write what is different"
        )
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RecipeError(f"{where}: its name is {name!r}; set name to small letters, digits and underscores")
    try:
        made: Form = value()
    except Exception as error:
        raise RecipeError(f"{where} cannot be made without arguments: {type(error).__name__}: {error}") from error
    return made
