"""The guide to data sets names every format, and what it shows is a recipe."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from curr_reft.data.config import DataConfig, FileEntry
from curr_reft.data.loaders import LOADERS
from curr_reft.data.sampling import Sampling

GUIDE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")


def blocks() -> list[dict[str, Any]]:
    """The YAML of the guide; lines that are single entries count as a list of them."""
    found = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    return [
        {"train": [yaml.safe_load(line) for line in block.splitlines() if line.startswith("{")]}
        if block.startswith("{")
        else yaml.safe_load(block)
        for block in found
    ]


def test_every_format_and_option_is_described() -> None:
    missing = [name for name in LOADERS if f"`{name}`" not in GUIDE]
    missing += [option for loader in LOADERS.values() for option in loader.options if option not in GUIDE]
    assert not missing


@pytest.mark.parametrize("block", blocks(), ids=range(len(blocks())))
def test_its_recipes_are_recipes(block: dict[str, Any]) -> None:
    for key, value in block.items():
        if key == "data":
            checked: list[Any] = [DataConfig.model_validate(value)]
        elif key.endswith("_datasets"):
            checked = [Sampling.parse(entry.get("sampling_strategy", "all")) for entry in value]
        else:
            checked = [FileEntry.model_validate(entry) for entry in value]
        assert checked
