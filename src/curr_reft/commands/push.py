"""Upload a model to the Hugging Face hub: the folder that merge wrote, or a model of a run, which is merged first.

What is sent is listed before it is sent; rollouts and checkpoints never are. The token is read from HF_TOKEN.
"""

import argparse
import os
import shutil
from pathlib import Path

from curr_reft.commands.merge import add_source
from curr_reft.console import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--repo", metavar="OWNER/NAME", required=True, help="repository; made where it is not there")
    parser.add_argument("--private", action="store_true", help="a repository that is made is private")
    parser.add_argument(
        "--even-unchanged", action="store_true", help="also a model with the weights of its base, which is refused else"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, and send nothing")


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.export.base import CONFIG
    from curr_reft.export.push import holds_base, token_of_environment

    if not arguments.dry_run:
        token_of_environment()  # before gigabytes are written
    source: Path = arguments.source
    from curr_reft.export.source import RunModel, find_source, require_published

    if (source / CONFIG).is_file():
        require_published(source)
        _require_changed(source, holds_base(source), arguments)
        _send(source, arguments)
        return
    from curr_reft.export.merge import merge

    found = find_source(source, arguments.model, arguments.base)
    _require_changed(source, isinstance(found, RunModel) and found.is_base, arguments)
    folder = source.parent / f".{source.resolve().name}-push-{os.getpid()}"  # beside it: on a disk that holds models
    try:
        merge(found, folder)
        _send(folder, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_changed(source: Path, is_base: bool, arguments: argparse.Namespace) -> None:
    """Raises UsageError for a model that is its base under another name."""
    if is_base and not arguments.even_unchanged:
        from curr_reft.errors import UsageError

        raise UsageError(
            f"{source}: the model has the weights of its base, as no training improved on it; train longer or on other "
            "data, name another model of the run with --model, or give --even-unchanged to upload it all the same"
        )


def _send(folder: Path, arguments: argparse.Namespace) -> None:
    from curr_reft.export.push import files_to_send, push
    from curr_reft.files import human_size

    sent, left = files_to_send(folder)
    total = human_size(sum(path.stat().st_size for path in sent))
    show(f"to {arguments.repo}{' (private)' if arguments.private else ''}, {len(sent)} files, {total}:")
    for path in sent:
        show(f"{human_size(path.stat().st_size):>9}  {path.name}")
    if left:
        show(f"not sent: {', '.join(left)}")
    if arguments.dry_run:
        show("nothing was sent: --dry-run")
    else:
        show(f"sent: {push(folder, sent, arguments.repo, arguments.private)}")
