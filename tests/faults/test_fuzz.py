"""Input that nobody wrote on purpose: recipes, rows, compositions and judges' replies with pieces changed (S5).

Whatever the text, the answer is a value or one error of ours. Everything else would be a traceback.
"""

import contextlib
import json
from pathlib import Path

import pytest
import tiny_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.load import load_data
from curr_reft.data.rows import composition
from curr_reft.errors import CurrReftError, DataError, RecipeError
from curr_reft.improve.reply import UnusableReplyError, read_reply
from curr_reft.recipe import dump_recipe, load_recipe
from curr_reft.tasks import TASKS

pytestmark = pytest.mark.slow

RECIPE = tiny_run.RECIPE.read_text()
ROWS = "\n".join(
    json.dumps(row)
    for row in (
        {"problem": "one and one", "solution": "2", "task": "math"},
        {"problem": "what is it", "solution": ["dog", "cat"], "task": "classification", "distractors": [["cow"]]},
        {"problem": "where is it", "solution": [1, 2, 30, 40], "task": "detection", "image_size": [64, 64]},
        {"problem": "<image>how many", "solution": "<answer>3</answer>", "task": "math", "image": "a.png"},
    )
)
COMPOSITION = "train_datasets:\n  - json_path: a.jsonl\n    sampling_strategy: first:10%\n  - json_path: b.jsonl\n"
KEYS = ["name", "output", "seed", "model.path", "curriculum.stages.0.forms", "rl.optimizer.lr", "x.y"]
REPLY = '```json\n{"accuracy": 90, "logic": 80.5, "format": 100, "fluency": 70, "total": 85, "comment": "fine"}\n```'

TOKENS = ["-", ";", "[", "]", "{", "}", '"', "'", "&", "*", "#", "?", "|", ">", "1e999", "<think>", "</think>"]
TOKENS += ["\\ud800", "\\u0000", "!!int ", "--- ", "null", "&a ", "*a"]
RARE = ["\0", "\x1b[31m", "\ud800", "\t", "\r", "\u202e", "\ufeff", ": ", "\n  - ", "---\n"]
HUGE = ["9" * 5000, "1" * 400, "[" * 3000, "{" * 3000]
PIECES = st.one_of(st.text(st.characters(), max_size=4), st.sampled_from([*TOKENS, *RARE, *HUGE]))


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """Return ``text`` with up to three pieces put in, taken out or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        text = text[:start] + draw(PIECES) + text[end:]
    return text


def fuzzed(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


@fuzzed(1500)
@given(text=changed(RECIPE))
def test_recipes(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "recipe.yaml", text)
    with contextlib.suppress(RecipeError):
        recipe = load_recipe(path)
        again = written(tmp_path / "again.yaml", dump_recipe(recipe))
        assert load_recipe(again) == recipe


@fuzzed(500)
@given(key=st.sampled_from(KEYS), value=PIECES)
def test_flags(key: str, value: str) -> None:
    with contextlib.suppress(RecipeError):
        load_recipe(tiny_run.RECIPE, [f"--{key}={value}"])


@fuzzed(1500)
@given(text=changed(ROWS), whole=st.booleans())
def test_rows(tmp_path: Path, text: str, whole: bool) -> None:
    if whole:
        text = "[" + text.replace("\n", ",\n") + "]"
    train = written(tmp_path / ("train.json" if whole else "train.jsonl"), text)
    test = written(tmp_path / "test.jsonl", '{"problem": "ten and one", "solution": "11", "task": "math"}')
    files = FilesConfig(train=(FileEntry(path=str(train)),), test=(FileEntry(path=str(test)),))
    config = DataConfig(kind="files", files=files, bad_rows="skip")
    with contextlib.suppress(CurrReftError):
        data = load_data(config, lambda task, raw: TASKS[task].read_truth(raw), tmp_path, quiet=True)
        for source, reason in data.skipped:
            (source + reason).encode()


@fuzzed(1000)
@given(text=changed(COMPOSITION))
def test_compositions(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "rows.yaml", text)
    with contextlib.suppress(DataError):
        assert composition(path, "rows.yaml", "train_datasets")


@fuzzed(2000)
@given(text=changed(REPLY))
def test_replies(text: str) -> None:
    with contextlib.suppress(UnusableReplyError):
        scores = read_reply(text)
        assert 0 <= scores.total <= 100
