"""Measure a training step against TRL's GRPOTrainer: the same weights, prompts and numbers of tokens, two prompts a
step, one process a side, steps made in turn. Writes a Markdown table; --json keeps the figures."""

import argparse

from curr_reft.commands.common import file_to_write
from curr_reft.console import show, show_error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        action="append",
        metavar="P,C,G",
        help="prompt tokens, completion tokens, completions a prompt; may be given more than once; default: the table",
    )
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="write the rows with all figures to this file"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="measured steps a side (default: 3)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of every process (default: 1)")
    parser.add_argument("--adapter", action="store_true", help="measure TRL with SharedPrefixGRPOTrainer too")
    parser.add_argument("--lora", action="store_true", help="adapters on the language model, vision tower frozen")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="recompute activations in backward")
    parser.add_argument(
        "--one-prompt-pass", action="store_true", help="ours trains from the rollout's own pass (rl.one_prompt_pass)"
    )


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.bench.measure import Setting, measure, require_trl
    from curr_reft.bench.shape import DEFAULT_SHAPES, parse_shape
    from curr_reft.bench.table import markdown
    from curr_reft.bench.work import Options
    from curr_reft.errors import UsageError
    from curr_reft.files import write_json

    for flag in ("repeats", "threads"):
        if (value := getattr(arguments, flag)) < 1:
            raise UsageError(f"--{flag} {value}: must be at least 1")
    shapes = [parse_shape(text) for text in arguments.shape or ()] or DEFAULT_SHAPES
    require_trl()
    if arguments.one_prompt_pass and arguments.gradient_checkpointing:
        raise UsageError("--one-prompt-pass: --gradient-checkpointing keeps no activations of a pass; leave one out")
    options = Options(
        lora=arguments.lora,
        gradient_checkpointing=arguments.gradient_checkpointing,
        one_prompt_pass=arguments.one_prompt_pass,
    )
    setting = Setting(repeats=arguments.repeats, options=options, adapter=arguments.adapter, threads=arguments.threads)
    rows = []
    for shape in shapes:
        rows.append(measure(shape, setting, say=show_error))
        if arguments.json is not None:  # after every row: a long measurement that is cut off keeps what it has
            write_json(arguments.json, rows)
    show(markdown(rows))
