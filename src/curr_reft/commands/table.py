"""The commands: the words a user types, the module that carries them out, what stands in the help, and examples.

Nothing is imported here, so that ``curr-reft --help`` answers at once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """A line of the table. ``module`` has ``add_arguments(parser)`` and ``execute(arguments)``; its docstring is what
    ``--help`` says."""

    words: tuple[str, ...]
    module: str
    help: str
    examples: tuple[str, ...]  # what follows ``curr-reft WORDS``
    writes: bool = False  # its result is in files: it goes on where its console is gone
    recipe_flags: bool = False  # takes --any.key value; they are in arguments.overrides


COMMANDS = (
    Command(
        words=("run",),
        module="run",
        writes=True,
        help="the whole method, as the recipe says",
        examples=("pets.yaml", "pets.yaml --resume", "pets.yaml --rl.optimizer.lr 2e-6 --output runs/faster"),
        recipe_flags=True,
    ),
    Command(
        words=("check",),
        module="check",
        help="check a recipe and its data without training",
        examples=("pets.yaml", "pets.yaml --gpu-memory 24GB", "pets.yaml --no-model"),
        recipe_flags=True,
    ),
    Command(
        words=("init",),
        module="init",
        help="write a first recipe for your own data",
        examples=(
            "--data labels.csv --model models/mine --gpu-memory 24GB",
            "--data instances.json --task detection --image-root train2017",
            '--data rows.csv --option "question=Which animal is shown?"',
        ),
    ),
    Command(
        words=("data", "build"),
        module="data_build",
        writes=True,
        help="write the three question sets, with a data card",
        examples=("pets.yaml --out sets", "pets.yaml --out sets --frame thousand --copy-images"),
        recipe_flags=True,
    ),
    Command(
        words=("data", "show"),
        module="data_show",
        help="a page of questions, with boxes and right answers",
        examples=("pets.yaml --out questions.html", "pets.yaml --out questions.html --each 20"),
        recipe_flags=True,
    ),
    Command(
        words=("data", "difficulty"),
        module="data_difficulty",
        writes=True,
        help="measure how often a model answers each question rightly",
        examples=(
            "embedded pets.yaml --out difficulty",
            "runs/pets/model pets.yaml --out hard --forms open",
        ),
        recipe_flags=True,
    ),
    Command(
        words=("eval",),
        module="eval",
        help="evaluate one model on the test splits",
        examples=("runs/pets pets.yaml", "models/mine pets.yaml --split out_of_domain --json scores.json"),
        recipe_flags=True,
    ),
    Command(
        words=("compare",),
        module="compare",
        writes=True,
        help="all models of a recipe over seeds, side by side",
        examples=("pets.yaml --seeds 0 1 2 --out runs/pets-seeds",),
        recipe_flags=True,
    ),
    Command(
        words=("status",),
        module="status",
        help="what a run is doing: step, last save, time left, faults",
        examples=("runs/pets", "runs/pets --json"),
    ),
    Command(
        words=("sample",),
        module="sample",
        writes=True,
        help="sample a model's answers to the pools",
        examples=("runs/pets pets.yaml --out answers",),
        recipe_flags=True,
    ),
    Command(
        words=("judge",),
        module="judge",
        writes=True,
        help="judge sampled answers, or those of a file",
        examples=(
            "answers --recipe pets.yaml",
            "runs/pets --retry-failed",
            "answers.jsonl --recipe pets.yaml --out judged",
        ),
        recipe_flags=True,
    ),
    Command(
        words=("judge", "calibrate"),
        module="judge_calibrate",
        writes=True,
        help="measure how far a judge can be trusted",
        examples=("labelled.jsonl --recipe pets.yaml --out calibration", "runs/pets --out calibration --items 200"),
        recipe_flags=True,
    ),
    Command(
        words=("select",),
        module="select",
        writes=True,
        help="select what is kept of judged answers",
        examples=("answers pets.yaml", "answers pets.yaml --self_improvement.threshold 90"),
        recipe_flags=True,
    ),
    Command(
        words=("sft",),
        module="sft",
        writes=True,
        help="fine-tune a model on kept answers",
        examples=("runs/pets pets.yaml --rows answers/kept.jsonl --out tuned",),
        recipe_flags=True,
    ),
    Command(
        words=("report",),
        module="report",
        writes=True,
        help="write the report of a run again",
        examples=("runs/pets",),
    ),
    Command(
        words=("merge",),
        module="merge",
        writes=True,
        help="write a model as a folder for transformers and vLLM",
        examples=("runs/pets --out pets-model", "runs/pets --model curr_rl --out pets-model"),
    ),
    Command(
        words=("push",),
        module="push",
        writes=True,
        help="upload a model to the Hugging Face hub",
        examples=("pets-model --repo me/pets --dry-run", "pets-model --repo me/pets --private"),
    ),
    Command(
        words=("base", "build"),
        module="base_build",
        writes=True,
        help="train the embedded model from nothing",
        examples=("--out base --phases phases",),
    ),
    Command(
        words=("bench",),
        module="bench",
        help="measure a training step against TRL's",
        examples=("", "--shape 309,32,8 --json bench.json"),
    ),
    Command(
        words=("grade",),
        module="grade",
        help="grade JSONL rows from standard input",
        examples=("< answers.jsonl > graded.jsonl", "--recipe pets.yaml < answers.jsonl"),
        recipe_flags=True,
    ),
)
