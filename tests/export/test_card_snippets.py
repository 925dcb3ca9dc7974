"""The code on a model card runs as it is, in the environment that made the folder: for every family built here."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapted import adapt
from PIL import Image
from published_layouts import PUBLISHED
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.utils import is_torchvision_available

from curr_reft.cli import main
from curr_reft.policy.families import FAMILIES
from curr_reft.report.card import PROCESSOR_PACKAGES


def snippets(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def execute(code: str, folder: Path) -> dict[str, Any]:
    """Run ``code`` in ``folder``, as somebody who copied it there."""
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        exec(code, names)
    return names


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_folder_of_a_merged_adapter_is_used_as_its_card_says(
    published: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    own = adapt(published(family), tmp_path / "adapter")
    assert main(["merge", str(own.adapter), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    *official, last = snippets(tmp_path / "out")
    needed = PROCESSOR_PACKAGES.get(family, ())
    if needed:
        (first,) = official
        assert f"# pip install {' '.join(needed)}\n" in first
        assert "pip install 'curr-reft[infer]'" in card
        if not is_torchvision_available():
            with pytest.raises((ImportError, ValueError), match=r"(?i)torchvision"):
                execute(first, tmp_path / "out")
        without = "\n".join(line for line in first.splitlines() if not line.startswith("processor"))
        model = execute(without, tmp_path / "out")["model"]
    else:
        model = execute(last, tmp_path / "out")["model"]
    processor = execute(last, tmp_path / "out")["processor"]
    picture = Image.new("RGB", (60, 60), "red")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is shown?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    pixels = {name: value.to(model.dtype) for name, value in inputs.items() if value.is_floating_point()}
    tokens = model.generate(**{**inputs, **pixels}, max_new_tokens=2, do_sample=False)
    assert tokens.shape[1] > inputs["input_ids"].shape[1]


def test_the_packages_of_the_cards_are_those_of_the_official_processors() -> None:
    """A processor with videos imports torchvision; SmolVLM's writes numbers as words too."""
    with_videos = {family for family in FAMILIES if family in VIDEO_PROCESSOR_MAPPING_NAMES}
    assert set(PROCESSOR_PACKAGES) == with_videos
    assert {family for family, packages in PROCESSOR_PACKAGES.items() if "num2words" in packages} == {"smolvlm"}


def test_the_card_of_a_run_is_used_from_its_directory(finished: Any) -> None:
    first, last = snippets(finished.path)
    assert "# pip install torchvision\n" in first
    assert "image_processor" in dir(execute(last, finished.path)["processor"])
