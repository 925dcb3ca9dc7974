"""Code that a recipe names: ``path/to/file.py:name`` or ``package.module:name``, read, hashed and handed out.

A file is run from the very bytes that were hashed, once per content, as a module of its own. Its folder is not put on
the import path: what it imports must be installed, so that one hash stands for the code of the recipe. This runs the
user's code with the user's rights; a recipe from others is a program from others.
"""

import difflib
import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft import process_state
from curr_reft.errors import RecipeError

FORMS = "write path/to/file.py:NAME (from the recipe's folder) or package.module:NAME"
_HINT = '; it would end the command: put what only a script does under if __name__ == "__main__"'
_NOTHING = object()


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """What a recipe's key names."""

    call: str  # as in the recipe, its path absolute
    value: Any  # the function or class
    sha256: str  # of the file it stands in
    file: str  # that file


def split_call(call: str) -> tuple[str, str]:
    """``("file.py", "name")`` or ``("package.module", "name")``. Raises ValueError with the rule."""
    place, colon, name = call.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ValueError(f"{call!r} names no function or class; {FORMS}")
    if not is_file(call) and not all(part.isidentifier() for part in place.split(".")):
        raise ValueError(f"{place!r} is neither a .py file nor a dotted module; {FORMS}")
    return place, name


def is_file(call: str) -> bool:
    """Whether ``call`` names a file, whose path is then taken from the recipe's folder."""
    return call.rpartition(":")[0].endswith(".py")


def load(call: str, key: str) -> UserCode:
    """The function or class at ``call``, which stands under ``key`` in the recipe. Raises RecipeError."""
    try:
        place, name = split_call(call)
    except ValueError as error:
        raise RecipeError(f"{key}: {error}") from error
    where = f"{key} = {call}"
    module, sha256 = _file_module(Path(place), where) if is_file(call) else _installed_module(place, where)
    try:
        value = getattr(module, name, _NOTHING)
    except Exception as error:  # the module's own __getattr__
        raise RecipeError(f"{where}: asking {place} for it raised {type(error).__name__}: {error}") from error
    if value is _NOTHING:
        public = [each for each in vars(module) if not each.startswith("_")]
        near = difflib.get_close_matches(name, public, 1, 0.5)
        way = f"did you mean {near[0]}?" if near else f"it defines {', '.join(_defined(module)) or 'nothing'}"
        raise RecipeError(f"{where}: {place} has no {name}; {way}")
    file = getattr(module, "__file__", None) or place
    return UserCode(call=call, value=value, sha256=sha256, file=file)


def told(error: BaseException, code: UserCode) -> str:
    """``KeyError: 'x' (file.py:12)``, what ``code`` raised and the last line of its own file on the way there."""
    line = _line(error, code.file)
    return f"{type(error).__name__}: {error}" + (f" ({code.file}:{line})" if line else "")


def digest(codes: Sequence[UserCode]) -> str | None:
    """One hash for all the code of a recipe, to compare when a run is resumed; None when there is none."""
    if not codes:
        return None
    lines = sorted(f"{code.call.rpartition(':')[2]} {code.sha256}" for code in codes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file_module(path: Path, where: str) -> tuple[types.ModuleType, str]:
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(
            f"{where}: {path} cannot be read ({reason}); paths are taken from the recipe's folder"
        ) from error
    sha256 = hashlib.sha256(source).hexdigest()
    # Named by its place and its content: another version of the file is another module.
    name = f"curr_reft_user_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{sha256[:8]}"
    if name in sys.modules:
        return sys.modules[name], sha256
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look a class up by its module
    try:
        with process_state.keep(where):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise RecipeError(f"{where}: {_what_failed(error, path)}") from error
    return module, sha256


def _installed_module(name: str, where: str) -> tuple[types.ModuleType, str]:
    try:
        with process_state.keep(where):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise RecipeError(f"{where}: importing {name} failed: {error}; install what it needs") from error
        raise RecipeError(
            f"{where}: there is no module {error.name}; install its package, put its folder on PYTHONPATH, or name "
            "the file (path/to/file.py:NAME)"
        ) from error
    except (Exception, SystemExit) as error:
        hint = _HINT if isinstance(error, SystemExit) else ""
        raise RecipeError(f"{where}: importing {name} failed: {type(error).__name__}: {error}{hint}") from error
    file = getattr(module, "__file__", None)
    content = Path(file).read_bytes() if file else name.encode()  # a built-in module has no file
    return module, hashlib.sha256(content).hexdigest()


def _what_failed(error: BaseException, path: Path) -> str:
    """``file:line: error`` of the line of the user's file that failed."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}: {error.msg}; correct the file"
    hint = _HINT if isinstance(error, SystemExit) else ""
    if isinstance(error, ModuleNotFoundError) and path.with_name(f"{error.name}.py").is_file():
        hint = f"; {error.name}.py beside it is not imported: put its code into {path.name}, or install it as a package"
    return f"{path}:{_line(error, str(path))}: {type(error).__name__}: {error}{hint}"


def _line(error: BaseException, file: str) -> int:
    """The last line of ``file`` on the way to the error; 0: it was not on the way."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _defined(module: types.ModuleType) -> list[str]:
    """Functions and classes that the module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
