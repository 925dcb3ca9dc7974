"""T19: code that a model brings along is not run, unless the recipe says so."""

import json
import sys
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import tiny_run

from curr_reft.cli import main
from curr_reft.errors import UsageError
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor, load_policy

MARK = "remote_code_ran"
REMOTE = f"""
import pathlib
pathlib.Path({MARK!r}).touch()
from transformers import PretrainedConfig
class OwnConfig(PretrainedConfig):
    model_type = "own_vl"
"""


def with_remote_code(folder: Path, kind: str | None) -> Path:
    """A model that brings ``own.py`` for its configuration, model, tokenizer and processors. ``kind``: its model_type,
    if it is not one of transformers."""

    def change(config: dict[str, Any]) -> None:
        config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForImageTextToText": "own.OwnModel"}
        if kind is not None:
            config["model_type"] = kind

    checkpoints.published_folder("qwen2_5_vl", folder, change)
    (folder / "own.py").write_text(REMOTE)
    for name, auto in (("tokenizer_config.json", "AutoTokenizer"), ("preprocessor_config.json", "AutoImageProcessor")):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {auto: ["own.Own", None] if auto == "AutoTokenizer" else "own.Own"}
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", ["own_vl", "internvl_chat"])
def test_code_of_a_models_own_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = with_remote_code(tmp_path / "model", kind)
    monkeypatch.chdir(tmp_path)
    for load in (load_policy, load_chat_processor):
        with pytest.raises(UsageError, match=r"brings Python code of its own.*which is not run;.*trust_remote_code"):
            load(ModelConfig(path=str(folder)))
    assert not (tmp_path / MARK).exists()
    if kind == "internvl_chat":
        with pytest.raises(UsageError, match="whose name ends in -hf"):
            load_policy(ModelConfig(path=str(folder)))


def test_code_beside_a_known_model_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers has the classes itself they are taken, whatever the folder brings."""
    folder = with_remote_code(tmp_path / "model", None)
    monkeypatch.chdir(tmp_path)
    policy = load_policy(ModelConfig(path=str(folder)))
    assert type(policy.core).__module__.startswith("transformers.")
    assert type(policy.processor.tokenizer).__module__.startswith("transformers.")
    assert not (tmp_path / MARK).exists()
    assert "own" not in sys.modules


@pytest.mark.parametrize("command", [["check"], ["run", "--output", "out"]])
def test_a_command_refuses_it(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_remote_code(tmp_path / "model", "own_vl")
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(tiny_run.RECIPE), "--model.path", str(folder)]) == 2
    assert "trust_remote_code" in capsys.readouterr().err
    assert not (tmp_path / MARK).exists()


def test_it_runs_where_the_recipe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is real: what the other tests do not find would be there."""
    folder = with_remote_code(tmp_path / "model", "own_vl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(UsageError, match="model family 'own_vl' is not supported"):  # said after its code was read
        load_policy(ModelConfig(path=str(folder), trust_remote_code=True))
    assert (tmp_path / MARK).exists()
