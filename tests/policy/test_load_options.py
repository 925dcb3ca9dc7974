"""How a model is loaded: number type, attention, devices; and what is refused before its weights are read."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from curr_reft.errors import UsageError
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import Policy, load_chat_processor, load_policy, weights_dtype
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.published_folder("qwen2_5_vl", tmp_path_factory.mktemp("published"))


def test_auto_is_the_type_the_weights_are_stored_in(published: Path, model_folder: Path, tmp_path: Path) -> None:
    policy = load_policy(ModelConfig(path=str(published), dtype="auto"))
    assert {p.dtype for p in policy.core.parameters()} == {torch.bfloat16}
    assert weights_dtype(ModelConfig(path=str(published), dtype="auto")) == "bfloat16"
    assert weights_dtype(ModelConfig(path=str(model_folder), dtype="auto")) == "float32"
    assert weights_dtype(ModelConfig(path=str(published))) == "float32"  # said, not read
    half = checkpoints.published_folder("qwen2_vl", tmp_path, lambda config: config.update(torch_dtype="float16"))
    with pytest.raises(UsageError, match=r"model\.dtype: auto, but the weights of .* are float16.*set bfloat16"):
        load_policy(ModelConfig(path=str(half), dtype="auto"))


def test_eager_attention_is_the_plain_path_again(fresh: Callable[..., Policy], groups: Any) -> None:
    plain, eager = fresh(packed=False), fresh(packed=False, attention="eager")
    assert eager.core.config.get_text_config()._attn_implementation == "eager"
    with torch.no_grad():
        one, other = (packed_logprobs(each, pack(groups, each.family)) for each in (plain, eager))
    assert (one - other).abs().max() <= 1e-5
    with pytest.raises(ValidationError, match="eager is for the plain path; set packed to false"):
        ModelConfig(attention="eager")


def test_devices_that_are_not_there(fresh: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU at all; and where the GPUs cannot hold the model, so that parts of it come to lie elsewhere."""
    if torch.cuda.is_available():
        pytest.skip("shows what is said where there is no GPU")
    with pytest.raises(
        UsageError, match=r"model\.device_map: 'auto' spreads a model over GPUs, and there is none here"
    ):
        fresh(packed=False, device_map="auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        "transformers.PreTrainedModel.hf_device_map", {"model.visual": 0, "lm_head": "cpu"}, raising=False
    )
    with pytest.raises(UsageError, match=r"the GPUs do not hold the model, parts of it came to cpu"):
        fresh(packed=False, device_map="auto")
    with pytest.raises(ValidationError, match="a packed row stays on one device; set packed to false"):
        ModelConfig(device_map="auto")
    with pytest.raises(ValidationError, match="leave out device 'cuda:0'"):
        ModelConfig(device_map="auto", packed=False, device="cuda:0")


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


class Payload:
    """Says when it is read."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.pth"])
def test_pickled_weights_are_refused_unread(tmp_path: Path, name: str) -> None:
    folder = checkpoints.published_folder("qwen2_vl", tmp_path / "model")
    for file in (*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"):
        file.unlink()
    (folder / name).write_bytes(pickle.dumps({"lm_head.weight": Payload(str(tmp_path / "ran"))}))
    with pytest.raises(UsageError, match=rf"are pickled \({name}\); they are not read.*Convert them to safetensors"):
        load_policy(ModelConfig(path=str(folder)))
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_is_left_alone(tmp_path: Path) -> None:
    folder = checkpoints.published_folder("qwen2_vl", tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(str(tmp_path / "ran"))))
    load_policy(ModelConfig(path=str(folder)))
    assert not (tmp_path / "ran").exists()


BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')\n"
LOADS = """
import importlib.util, sys
from PIL import Image
assert importlib.util.find_spec("torchvision") is not None
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from transformers.utils import is_torchvision_available
assert not is_torchvision_available()
for folder in sys.argv[1:]:
    encoded = load_policy(ModelConfig(path=folder)).processor.encode("find it", [Image.new("RGB", (70, 98), "red")])
    print(encoded.length, float(encoded.pixel_inputs["pixel_values"].double().sum()))
"""


@pytest.mark.slow
def test_beside_a_torchvision_that_cannot_be_imported(tmp_path: Path, published: Path) -> None:
    """The wheel for GPUs beside a torch for CPUs: transformers believes in it, and importing it raises."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN)
    facts = tmp_path / "site" / "torchvision-0.28.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    smol = checkpoints.published_folder("smolvlm", tmp_path / "smolvlm")
    expected = []
    for folder in (published, smol):
        encoded = load_policy(ModelConfig(path=str(folder))).processor.encode(
            "find it", [Image.new("RGB", (70, 98), "red")]
        )
        expected.append(f"{encoded.length} {float(encoded.pixel_inputs['pixel_values'].double().sum())}")
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(published), str(smol)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == expected
