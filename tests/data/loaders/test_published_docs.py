"""docs/datasets.md is true of published data sets: its entries are valid, and no format or option is left out."""

import re
from pathlib import Path

import pytest
import yaml

from curr_reft.data.config import DataConfig, FileEntry
from curr_reft.data.loaders import LOADERS

TEXT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## Published data sets")[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
ENTRIES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("{path:")]
FORMATS = list(LOADERS)[list(LOADERS).index("coco") :]


def test_the_recipe_is_valid() -> None:
    (whole,) = [block for block in BLOCKS if block.startswith("data:")]
    data = DataConfig.model_validate(yaml.safe_load(whole)["data"])
    assert {entry.format for entry in (*data.files.train, *data.files.ood_test)} >= {
        "refcoco",
        "refgta",
        "voc",
        "super_clevr",
    }


@pytest.mark.parametrize("line", ENTRIES)
def test_an_entry_is_valid(line: str) -> None:
    entry = FileEntry.model_validate(yaml.safe_load(line))
    assert entry.format in FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_and_its_options_are_described(name: str) -> None:
    assert any(f"format: {name}" in line for line in ENTRIES), f"docs/datasets.md shows no entry of {name}"
    missing = [key for key in LOADERS[name].options if not re.search(rf"\b{key}\b", SECTION)]
    assert not missing, f"docs/datasets.md says nothing of the options {missing} of {name}"
