"""The command line: finds the command, reads its flags, turns our errors into one message and an exit code.

Nothing heavy is imported here; a command imports what it needs when it is carried out, so that --help is quick.
"""

import argparse
import difflib
import errno
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import takewhile
from typing import Any

from curr_reft import __version__, console, process_state, stopping
from curr_reft.commands.help_text import EXIT_CODES, KEYS, OUTPUT, HelpText, ListKeys
from curr_reft.commands.table import COMMANDS, Command
from curr_reft.errors import CurrReftError, DataError, DiskFullError, ElsewhereError, UsageError
from curr_reft.escaping import visible
from curr_reft.files import NO_SPACE
from curr_reft.stopping import Stopped

log = logging.getLogger(__name__)

OTHER_COMMANDS = {  # of TRL, LLaMA-Factory, ms-swift and of habit -> ours
    "train": "run",
    "grpo": "run",
    "rlhf": "run",
    "start": "run",
    "resume": "run RUN_DIR --resume",
    "version": "--version",
    "help": "--help",
    "evaluate": "eval",
    "test": "eval",
    "validate": "check",
    "dry-run": "check",
    "export": "merge",
    "merge-lora": "merge",
    "upload": "push",
    "new": "init",
    "create": "init",
    "list": "run --help",
}

NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
OTHER_PROBLEMS_SHOWN = 9
OUTPUT_FLAGS = ("-v", "--verbose", "-q", "--quiet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code: 0 done, 1 failed, 2 refused, 3 no space, 128 plus the number of the
    signal that stopped it."""
    console.configure()
    # A pool of workers is forked after tokenizers were used; without this every fork prints a warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = _command(words[len(_leading(words)) :])
    with stopping.outlive_console() if command is not None and command.writes else nullcontext():
        return _exit_code(words)


def _exit_code(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except ElsewhereError as error:
        return error.exit_code
    except CurrReftError as error:
        # Frames without the messages of other libraries, which may quote a key.
        log.debug("raised at:\n%s", "".join(traceback.format_tb(error.__traceback__)))
        console.show_error(f"error: {_message(error)}")
        return error.exit_code
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":  # of several processes, which all stopped, the main one says so
            console.show_error(_stopped(stopped))
        return stopped.exit_code
    except KeyboardInterrupt:
        console.show_error("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (| head); the interpreter must not try to flush to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno in NO_SPACE:
            console.show_error(f"error: no space left: {error}")
            return DiskFullError.exit_code
        if error.errno in NO_ACCESS:
            console.show_error(
                f"error: no access to {error.filename} from {os.getcwd()}: {error.strerror}; choose another place, or "
                "ask for the right to it"
            )
            return UsageError.exit_code
        if error.errno == errno.EBADF and (code := process_state.last_called()):
            console.show_error(
                f"error: a file descriptor of this process was closed under it ({error}); the last code of yours that "
                f"ran is {code}: let it close only what it opened itself"
            )
            return CurrReftError.exit_code
        raise
    finally:
        stopping.finish()


def _stopped(stopped: Stopped) -> str:
    code = f"exit code {stopped.exit_code}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        code += ", which the launcher reports as a failure: none of the processes failed"
    if stopped.saved_in is None:
        return f"stopped by {stopped.signal.name} before there was anything to save: give the command again ({code})"
    return (
        f"stopped by {stopped.signal.name}: what is done is saved in {stopped.saved_in}, --resume continues it ({code})"
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose messages quote arguments safely."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


def parser() -> argparse.ArgumentParser:
    """The parser of everything but the flags that are keys of the recipe."""
    top = _Parser(
        prog="curr-reft",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Post-train small vision-language models by Curriculum Reinforcement Finetuning.",
        epilog=f"commands:\n{_table(COMMANDS)}\n\n{OUTPUT}\n\n{EXIT_CODES}",
        formatter_class=HelpText,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"curr-reft {__version__}")
    groups: dict[tuple[str, ...], argparse._SubParsersAction[_Parser]] = {
        # Listed in the epilog instead, each by all its words: argparse knows the first one alone.
        (): top.add_subparsers(prog="curr-reft", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    }
    for command in COMMANDS:
        group, name = command.words[:-1], command.words[-1]
        if len(_spoken(command)) == 1:
            group, name = (), " ".join(command.words)
        if group not in groups:
            parent = groups[()].add_parser(group[0], allow_abbrev=False)
            groups[group] = parent.add_subparsers(title="commands", metavar="COMMAND", required=True)
        module = importlib.import_module(f"curr_reft.commands.{command.module}")
        one = groups[group].add_parser(
            name,
            help=command.help,
            description=(module.__doc__ or "").strip(),
            epilog=_below(command),
            formatter_class=HelpText,
            allow_abbrev=False,
        )
        module.add_arguments(one)
        shown = one.add_mutually_exclusive_group()
        shown.add_argument("-v", "--verbose", action="store_true", help="print details too, and tracebacks of errors")
        shown.add_argument("-q", "--quiet", action="store_true", help="print errors and the final result only")
        if command.recipe_flags:
            one.add_argument("--keys", action=ListKeys, nargs="?", metavar="PART", help="list the keys of the recipe")
        one.set_defaults(execute=module.execute, overrides=[], parser=one)
    return top


def _below(command: Command) -> str:
    """What stands below the options of a command: keys, examples, and commands that begin with the same words."""
    examples = "\n".join(f"  curr-reft {' '.join(command.words)} {example}".rstrip() for example in command.examples)
    longer = [each for each in COMMANDS if each.words[:-1] == command.words]
    return "\n\n".join(
        [
            *([KEYS] if command.recipe_flags else []),
            f"examples:\n{examples}",
            *([f"another command:\n{_table(longer)}"] if longer else []),
        ]
    )


def _table(commands: Sequence[Command]) -> str:
    """A line a command, with all its words."""
    width = max(len(" ".join(command.words)) for command in commands)
    return "\n".join(f"  {' '.join(command.words):{width}}  {command.help}" for command in commands)


def _command(words: Sequence[str]) -> Command | None:
    """The command that ``words`` begin with."""
    named = [each for each in COMMANDS if tuple(words[: len(each.words)]) == each.words]
    return max(named, key=lambda each: len(each.words), default=None)


def _leading(words: Sequence[str]) -> list[str]:
    """The flags of output that stand before the command."""
    return list(takewhile(lambda word: word in OUTPUT_FLAGS, words))


def _dispatch(words: list[str]) -> int:
    top = parser()
    leading = _leading(words)
    words = words[len(leading) :]
    command = _command(words)
    if command is None and words:
        near = difflib.get_close_matches(words[0], {each.words[0] for each in COMMANDS}, 1, 0.6)
        meant = OTHER_COMMANDS.get(words[0]) or (near[0] if near else words[0])
        if meant != words[0]:
            top.error(f"unknown command {words[0]!r}; did you mean {meant}?")
    overrides: list[str] = []
    if command is not None:
        own = words[len(command.words) :]
        if command.recipe_flags:
            own, overrides = _split(own, _options(top, command))
        words = [*_spoken(command), *leading, *own]
    arguments = top.parse_args(words)
    arguments.overrides = overrides
    console.configure(verbose=arguments.verbose, quiet=arguments.quiet)
    return int(arguments.execute(arguments) or 0)


def _spoken(command: Command) -> tuple[str, ...]:
    """How argparse knows the command: where the words before the last one are a command themselves (judge, and judge
    calibrate), all are one name, as argparse has no command that is a group too."""
    if any(each.words == command.words[:-1] for each in COMMANDS):
        return (" ".join(command.words),)
    return command.words


def _options(top: argparse.ArgumentParser, command: Command) -> dict[str, bool]:
    """The options of ``command`` itself, and whether each takes a value."""
    current = top
    for word in _spoken(command):
        subparsers = next(action for action in current._actions if isinstance(action, argparse._SubParsersAction))
        current = subparsers.choices[word]
    return {name: action.nargs != 0 for action in current._actions for name in action.option_strings}


def _split(words: Sequence[str], known: dict[str, bool]) -> tuple[list[str], list[str]]:
    """What argparse is to read, and the flags that are keys of the recipe, each with its value."""
    own: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        target = own if name in known or not word.startswith("--") else overrides
        target.append(word)
        takes_value = known.get(name, target is overrides)
        if takes_value and not equals and rest and not rest[0].startswith("--"):
            target.append(rest.pop(0))
    return own, overrides


def _message(error: CurrReftError) -> str:
    """The error's text; the problems it holds besides the first follow, unless the text has them already."""
    text = str(error)
    others = error.problems[1:] if isinstance(error, DataError) else ()
    if others and ": ".join(others[0]) not in text:  # its reason alone may be that of the first one too
        lines = [f"{source}: {reason}" for source, reason in others[:OTHER_PROBLEMS_SHOWN]]
        more = len(others) - len(lines)
        text = "\n".join([text, *lines, *([f"... and {more} more"] if more > 0 else [])])
    return text


if __name__ == "__main__":
    sys.exit(main())
