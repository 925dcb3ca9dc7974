"""The reference data set's layout: what is wrong with it is named, what is right is read."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from reference_rows import COUNTS, ReferenceRows, write_reference_rows

from curr_reft.data.config import DataConfig
from curr_reft.data.frame import BoxFrame
from curr_reft.data.load import LoadedData, load_data
from curr_reft.errors import DataError
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.recipe import load_recipe
from curr_reft.tasks import TASKS

STAGES = [{"name": form, "forms": {form: 1}, "steps": 1} for form in ("binary", "choice", "open")]


def prepared_rows(written: ReferenceRows, **more: object) -> Prepared:
    """The questions of a run on the rows, by its own door."""
    section = {"name": "reference", "data": written.data | more, "curriculum": {"total_steps": 3, "stages": STAGES}}
    section |= {"questions": {"style": "full"}, "evaluation": {"models": ["base", "curr_rl"]}}
    (written.folder / "recipe.yaml").write_text(yaml.safe_dump(section))
    recipe = load_recipe(written.folder / "recipe.yaml")
    return prepare(recipe, load_items(recipe), BoxFrame("pixels"))


def load(written: ReferenceRows, **more: object) -> LoadedData:
    config = DataConfig.model_validate(written.data | more)
    return load_data(config, lambda task, truth: TASKS[task].read_truth(truth), written.folder)


def test_repaired_rows_are_all_read(tmp_path: Path) -> None:
    written = write_reference_rows(tmp_path, repaired=True)
    data = load(written)
    counts = data.account()["items"]
    assert sum(sum(tasks.values()) for tasks in counts.values()) == 200
    assert counts["train"] == dict.fromkeys(("detection", "classification", "math"), COUNTS["train"])
    assert len({item.images[0].key for item in data.items}) == 200
    box = next(item for item in data.items if item.task == "detection")
    assert all(side == int(side) for side in box.truth)
    assert written.lost_brackets == 3 * (10 + 3)


def test_every_fault_is_named(tmp_path: Path) -> None:
    written = write_reference_rows(tmp_path)
    with pytest.raises(DataError) as caught:
        load(written)
    assert [source for source, _ in caught.value.problems] == [written.broken, written.missing]
    reasons = [reason for _, reason in caught.value.problems]
    assert "not JSON" in reasons[0]
    assert "does not exist" in reasons[1]
    data = load(written, bad_rows="skip")
    assert len(data.items) == 198
    with pytest.raises(DataError) as leak:
        prepared_rows(written, bad_rows="skip")
    assert all(source in str(leak.value) for source in written.repeated)


def test_repaired_rows_become_questions_of_every_form(tmp_path: Path) -> None:
    written = write_reference_rows(tmp_path, repaired=True)
    prepared = prepared_rows(written)
    for form in ("binary", "choice", "open"):
        tasks = Counter(question.task for question in prepared.of("train", form))
        assert tasks == dict.fromkeys(("detection", "classification", "math"), COUNTS["train"])
