"""The forms of the recipe at hand: the built-in ones, and the classes that its key ``forms`` names."""

import inspect
import re
from collections.abc import Sequence
from typing import Any, cast

from curr_reft.errors import CurrReftError, RecipeError
from curr_reft.questions.forms import FORMS, Draft, Form, Skip
from curr_reft.questions.question import Question
from curr_reft.tasks.user import use_tasks
from curr_reft.user_code import UserCode, load, told

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_METHODS = tuple(name for name, value in vars(Form).items() if inspect.isfunction(value) and not name.startswith("_"))
_RETURNS: dict[str, tuple[type, ...]] = {
    "draft": (Draft, Skip), "group": (str,), "layouts": (int,), "build": (Question,), "write": (str,),
}  # fmt: skip
"""What the methods give by which questions are made. The other two read what others wrote, and their callers know what
it means when they raise."""
_own: set[str] = set()  # names in FORMS that the recipe at hand brought along


class OwnForm:
    """``own``, whose methods say where they stand when they break down."""

    def __init__(self, own: Form, where: str, code: UserCode) -> None:
        self.own, self.where, self.code = own, where, code

    def __getattr__(self, name: str) -> Any:
        """What the form has of that name. A method by which questions are made raises RecipeError where it raises, or
        returns something else than it should."""
        value = getattr(self.own, name)
        if name not in _RETURNS:
            return value

        def call(*given: Any, **named: Any) -> Any:
            try:
                found = value(*given, **named)
            except CurrReftError:
                raise
            except (Exception, SystemExit) as error:
                raise RecipeError(f"{self.where}: {name} raised {told(error, self.code)}; correct the class") from error
            if not isinstance(found, _RETURNS[name]):
                needed = " or ".join(each.__name__ for each in _RETURNS[name])
                raise RecipeError(f"{self.where}: {name} returned {found!r}, and a {needed} is needed")
            if name == "layouts" and isinstance(found, int) and found < 1:
                raise RecipeError(f"{self.where}: layouts returned {found}; a draft can be laid out in 1 way at least")
            return found

        return call


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
        form = _form(code, where)
        if form.name in made or (form.name in FORMS and form.name not in _own):
            raise RecipeError(f"{where}: there is a form {form.name!r} already; give the class another name")
        made[form.name] = cast(Form, OwnForm(form, where, code))
    for name in _own:
        FORMS.pop(name, None)
    _own.clear()
    _own.update(made)
    FORMS.update(made)
    return codes


def _form(code: UserCode, where: str) -> Form:
    """The form that a class makes. Raises RecipeError."""
    value = code.value
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
        raise RecipeError(f"{where} cannot be made without arguments: {told(error, code)}") from error
    return made
