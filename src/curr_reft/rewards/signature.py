"""Whether a function can be called as TRL calls a reward: found out before anything expensive begins."""

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeAlias

from curr_reft.errors import RecipeError
from curr_reft.process_state import keep

BATCH = ("prompts", "completions", "completion_ids")
TRAINER = ("trainer_state", "log_extra", "log_metric")
COLUMNS = ("id", "origin", "task", "form", "truth", "solution", "options", "split", "source", "domain", "images")
OUTCOME = ("format", "accuracy")  # the parts known before: beyond TRL, for rewards that depend on the outcome
GIVEN = (*BATCH, *TRAINER, *COLUMNS, *OUTCOME)

Parameters: TypeAlias = Mapping[str, inspect.Parameter]


def ready(value: Any, options: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """The function to call. Raises RecipeError when it cannot be called as TRL calls a reward.

    ``options`` are bound to a reward function as keywords. A class, and a function that takes neither prompts nor
    completions (TRL's ``get_...`` functions), makes the reward: it is called once, with the options.
    """
    if not callable(value):
        raise RecipeError(
            f"{where} is no function but of type {type(value).__name__}; "
            "name a function (prompts, completions, **columns)"
        )
    named = parameters(value, where)
    _require_options(named, options, where)
    if not isinstance(value, type) and (takes_all(named) or any(name in named for name in BATCH)):
        _require_given(named, options, where)
        return functools.partial(value, **deepcopy(dict(options))) if options else value
    try:
        with keep(where):
            made = value(**deepcopy(dict(options)))
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"{where} takes neither prompts nor completions, so it was called with its options to make the reward; it "
            f"raised {type(error).__name__}: {error}"
        ) from error
    if not callable(made):
        raise RecipeError(
            f"{where} takes neither prompts nor completions, and of its options it made a {type(made).__name__}; "
            "name a function (prompts, completions, **columns), or one that returns such a function"
        )
    _require_given(parameters(made, where), {}, where)
    return made


def parameters(function: Callable[..., Any], where: str) -> Parameters:
    """The parameters by name. Raises RecipeError for a function that does not tell them (some written in C)."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: its parameters cannot be read ({error}); name a Python function") from error


def takes_all(named: Parameters) -> bool:
    """Whether there is a ``**columns``."""
    return any(each.kind is each.VAR_KEYWORD for each in named.values())


def is_async(function: Any) -> bool:
    """Whether a call returns a coroutine: of an async function, also a bound one, or a class with an async call."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _require_options(named: Parameters, options: Mapping[str, Any], where: str) -> None:
    taken = [name for name in options if name in GIVEN]
    if taken:
        raise RecipeError(f"{where}: options.{taken[0]} is a name of what every reward is given; rename the parameter")
    unknown = [name for name in options if name not in named]
    if unknown and not takes_all(named):
        raise RecipeError(f"{where}: options.{unknown[0]} is no parameter of it; it takes {', '.join(named) or 'none'}")


def _require_given(named: Parameters, options: Mapping[str, Any], where: str) -> None:
    for name, each in named.items():
        if each.kind is each.POSITIONAL_ONLY:
            raise RecipeError(f"{where}: its parameter {name} takes no keyword, and rewards are called by keywords")
        required = each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if required and name not in GIVEN and name not in options:
            raise RecipeError(
                f"{where}: its parameter {name} is given by no one. Set it under options, give it a default, or take "
                f"one of the columns: {', '.join((*COLUMNS, *OUTCOME))}"
            )
