"""How a model is loaded: number type, attention, devices; and what is refused before its weights are read."""

import os
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
from curr_reft.policy.load import Policy, load_policy, weights_dtype
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
