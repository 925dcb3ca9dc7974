"""The snippet of docs/trl.md runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

from curr_reft.bench import peer
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import build_model, build_processor

DOC = Path(__file__).parents[2] / "docs" / "trl.md"


def test_the_snippet_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not DOC.exists():
        pytest.skip("not a checkout")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (snippet,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    shape = Shape(P=28, C=16, G=4)
    names = {"model": build_model(), "processor": build_processor(), "dataset": peer.build_dataset(shape, 4)}
    before = {name: each.detach().clone() for name, each in names["model"].named_parameters()}
    exec(snippet, names)
    assert names["trainer"].state.global_step == 2
    assert any(not torch.equal(each, before[name]) for name, each in names["model"].named_parameters())
