"""A recipe as it was written: YAML with the line of every key, and the flags laid over it.

YAML is read by the core schema of YAML 1.2: ``1e-6`` is a number, ``yes`` and ``2024-01-01`` are text. Keys that stand
twice, tags and recursion are errors.
"""

import difflib
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from yaml.reader import ReaderError

from curr_reft.errors import RecipeError

Key: TypeAlias = tuple[str | int, ...]

SHIPPED = "share/curr-reft/recipes"  # below sys.prefix, where a wheel puts them (pyproject.toml)

RUN_STATE, RUN_RECIPE = "run.json", "recipe.yaml"  # of a run directory; run_record.py is above this module

_MAX_NODES = 100_000  # of a recipe with its anchors expanded
_MAX_DEPTH = 100  # of sections and lists inside one another; the schema needs about ten
_SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))

_IMPLICIT = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (a class attribute of yaml)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, no deeper than ``_MAX_DEPTH``: yaml composes recursively."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            problem = f"sections and lists are nested more than {_MAX_DEPTH} deep"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    """Keeps the resolvers of YAML 1.1 too, so that text which any reader would take for a number is quoted."""


for _name, _pattern, _first in _IMPLICIT:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)).replace("_", ""))  # 010 is ten, 1:30 is no number


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flow = not any(isinstance(each, dict | list) for each in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_Dumper.add_representer(list, _represent_list)


class Source:
    """Plain data, and for every key where it was given: ``file:line`` or ``--flag``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.data: dict[str, Any] = {}
        self.places: dict[Key, str] = {}

    def place(self, key: Key) -> str:
        """Where ``key``, or the nearest key above it, was given."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.places:
                return self.places[key[:length]]
        return self.name

    def override(self, flags: Sequence[tuple[str, str]], is_text: Callable[[str], tuple[bool, bool]]) -> list[str]:
        """Lay ``flags`` (dotted key, value) over the data. Return the problems found.

        A value is YAML, except where ``is_text`` says that the key holds text: that is taken as typed (``null`` stays
        null where the key may be null).
        """
        problems = []
        for dotted, text in flags:
            flag = f"--{dotted}"
            try:
                text_only, may_be_null = is_text(dotted)
                as_typed = text_only and not (may_be_null and text in ("null", "~", ""))
                _require_whole(dotted + text, flag.encode(errors="replace").decode())
                value = text if as_typed else parse(text, flag)
                key = _put(self.data, dotted, value)
            except RecipeError as error:
                problems.append(str(error))
                continue
            self.places = {known: place for known, place in self.places.items() if known[: len(key)] != key}
            for length in range(1, len(key) + 1):  # sections the flag made are named by it too
                self.places.setdefault(key[:length], flag)
        return problems


def read(path: Path) -> Source:
    """The data of the YAML file ``path``. Raises RecipeError with ``file:line``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(_missing(path)) from error
    except IsADirectoryError as error:
        raise RecipeError(f"{path} is a directory; give a recipe file (.yaml)") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    source = Source(str(path))
    data = parse(text, str(path), source.places)
    if not isinstance(data, dict):
        raise RecipeError(
            f"{path}: a recipe is a list of keys with values (name: demo, seed: 0, ...), not {_shown(data)}"
        )
    source.data = data
    return source


def find(name: str) -> Path:
    """The recipe that ``name`` means: a file, the recipe of a run directory, or a shipped recipe by its bare name.

    Raises RecipeError with the names of the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / RUN_STATE).is_file() and (path / RUN_RECIPE).is_file():
        return path / RUN_RECIPE
    known = shipped()
    if name in known:
        return known[name]
    if path.is_dir():
        raise RecipeError(f"{path} is a directory, but not of a run; give a recipe file (.yaml) or a run directory")
    if path.name != name or path.suffix in (".yaml", ".yml"):
        return path
    near = difflib.get_close_matches(name, known, 1, 0.6)
    raise RecipeError(
        f"recipe {name} does not exist, and no shipped recipe has this name; "
        + (f"did you mean {near[0]}? " if near else "")
        + f"shipped are {', '.join(known) or 'none'}"
    )


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes of the checkout, or of those that were installed with the package."""
    folders = (Path(__file__).parents[2] / "recipes", Path(sys.prefix) / SHIPPED)
    folder = next((each for each in folders if each.is_dir()), folders[-1])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def parse(text: str, name: str, places: dict[Key, str] | None = None) -> Any:
    """The data in the YAML ``text``; ``places`` gets ``name:line`` for every key. Raises RecipeError."""
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        where = f"{name}:{line}" if places is not None else name
        raise RecipeError(f"{where}: not YAML: U+{error.character:04X} is a control character; remove it") from error
    try:
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, name, places).build(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark and places is not None else name
        problem = getattr(error, "problem", None) or str(error)
        if "'\\t'" in problem:
            problem = "a tab; YAML is indented with spaces"
        raise RecipeError(f"{where}: not YAML: {problem}") from error
    finally:
        loader.dispose()


def write(data: Any) -> str:
    """``data`` as YAML that ``parse`` reads back equal, keys in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def split_flags(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """``--key value`` and ``--key=value`` as (key, value). Raises RecipeError."""
    flags = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or argument == "--":
            raise RecipeError(f"{argument!r} is neither a flag nor its value; keys are given as --any.key VALUE")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"--{key} needs a value: --{key} VALUE")
            value = rest.pop(0)
        flags.append((key, value))
    return flags


class _Builder:
    """Makes plain data of YAML nodes, which know their lines."""

    def __init__(self, loader: _Loader, name: str, places: dict[Key, str] | None) -> None:
        self.loader = loader
        self.name = name
        self.places = places
        self.nodes = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node, key: Key) -> Any:
        self.nodes += 1
        if id(node) in self.open or self.nodes > _MAX_NODES:
            raise RecipeError(f"{self._where(node)}: an anchor that holds itself, or far too many keys")
        if self.places is not None and key and key not in self.places:
            self.places[key] = self._where(node)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(each, (*key, index)) for index, each in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name_node, value_node in node.value:
            name = name_node.value
            if not isinstance(name_node, yaml.ScalarNode):
                raise RecipeError(f"{self._where(name_node)}: a key must be text")
            _require_whole(name, self._where(name_node))
            dotted = ".".join(map(str, (*key, name)))
            if name in data:
                raise RecipeError(
                    f"{self._where(name_node)}: {dotted} stands twice, first in line {lines[name]}; remove one"
                )
            lines[name] = name_node.start_mark.line + 1
            if self.places is not None:
                self.places[*key, name] = self._where(name_node)
            data[name] = self.build(value_node, (*key, name))
        return data

    def _scalar(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALAR_TAGS:
            raise RecipeError(f"{self._where(node)}: the tag {node.tag} is not allowed in a recipe")
        shown = node.value if len(node.value) <= 60 else f"{node.value[:57]}..."
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError) as error:  # a number of thousands of digits too
            kind = node.tag.rpartition(":")[2]
            raise RecipeError(f"{self._where(node)}: {shown!r} cannot be read as {kind}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{self._where(node)}: {shown} is not a finite number")
        if isinstance(value, str):
            _require_whole(value, self._where(node))
        return value

    def _where(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}" if self.places is not None else self.name


def _require_whole(text: str, where: str) -> None:
    """Raise RecipeError where ``text`` holds half a character or NUL, which no file and no path can hold."""
    if "\0" in text:
        raise RecipeError(f"{where}: U+0000 is a control character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise RecipeError(f"{where}: {half} is half a character (an unpaired surrogate); remove it") from error


def _put(data: dict[str, Any], dotted: str, value: Any) -> Key:
    """Set the dotted key; sections that are absent or null are made. Returns the key. Raises RecipeError."""
    flag = f"--{dotted}"
    parts = dotted.split(".")
    if not all(parts) or len(parts) > _MAX_DEPTH:
        raise RecipeError(f"{flag[:80]}: not a key; keys look like --rl.optimizer.lr")
    node: Any = data
    key: Key = ()
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        index: str | int = part
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                allowed = f"0 to {len(node) - 1}" if node else "none: the list is empty"
                raise RecipeError(f"{flag}: {part!r} is no place in the list {_dotted(key)}; places are {allowed}")
            index = int(part)
        elif not isinstance(node, dict):
            raise RecipeError(f"{flag}: {_dotted(key)} is {_shown(node)}, it has no key {part!r}")
        key = (*key, index)
        if last:
            node[index] = value
        elif isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        if not last:
            node = node[index]
    return key


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _shown(value: Any) -> str:
    text = write(value).strip().removesuffix("\n...")
    return text if len(text) <= 60 else text[:57] + "..."


def _missing(path: Path) -> str:
    siblings = sorted(each.name for each in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, 1, 0.5)
    shipped = Path(sys.prefix) / SHIPPED / path.name
    if shipped.is_file():
        return f"recipe {path} does not exist; the one that was installed with the package is {shipped}"
    return f"recipe {path} does not exist" + (f"; did you mean {path.parent / near[0]}?" if near else "")
