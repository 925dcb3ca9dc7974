"""Pre-training computes what it says: pixels, positions and masks against transformers' own code, one lesson a row."""

import random

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.data.shapes import PRE_TRAINING, random_scene
from curr_reft.embedded.architecture import MERGE, PATCH, TEMPORAL, build_model
from curr_reft.embedded.build import PLAN, make_rows
from curr_reft.embedded.lessons import Lesson
from curr_reft.embedded.pretrain import Collator, Row, loss, patches
from curr_reft.embedded.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def collate() -> Collator:
    return Collator(build_tokenizer(), 6.0)


def test_patches_equal_those_of_the_image_processor() -> None:
    rng = random.Random(0)
    scenes = [random_scene(rng, PRE_TRAINING) for _ in range(3)]
    processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=TEMPORAL,
        size={"shortest_edge": 84 * 84, "longest_edge": 84 * 84},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    theirs = processor([scene.open() for scene in scenes], return_tensors="pt")
    pixels, grid = patches(scenes)
    torch.testing.assert_close(pixels, theirs["pixel_values"])
    assert grid.tolist() == theirs["image_grid_thw"].tolist()


def test_a_lesson_costs_the_same_alone_and_beside_others(collate: Collator) -> None:
    """Lessons behind one image must not see each other, and positions must be those of transformers."""
    model = build_model(0).eval()
    rows = make_rows(PLAN[2], 0, random.Random(3))[:3]
    together = collate(rows)
    with torch.no_grad():
        packed = loss(model, together)
        total = weight = 0.0
        for row in rows:
            for each in row.lessons:
                alone = collate([Row(scene=row.scene, lessons=(each,))])
                share = float(alone.weights_S.sum())
                total += float(_plain_loss(model, alone)) * share
                weight += share
    assert float(packed) == pytest.approx(total / weight, rel=1e-5)


def _plain_loss(model: torch.nn.Module, batch: object) -> torch.Tensor:
    """One lesson in one row: transformers finds mask and positions by itself."""
    kinds = (batch.input_ids_NL == model.config.image_token_id).long()
    logits = model(
        input_ids=batch.input_ids_NL,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        mm_token_type_ids=kinds,
    ).logits
    losses = torch.nn.functional.cross_entropy(logits[batch.rows_S, batch.places_S], batch.targets_S, reduction="none")
    return (losses * batch.weights_S).sum() / batch.weights_S.sum()


@pytest.mark.parametrize(
    ("form", "completion", "decides", "heavy"),
    [
        ("binary", "<think> i guess </think> <answer> yes </answer>", "yes", [" yes"]),
        ("choice", "<think> i guess </think> <answer> A, C </answer>", "A, C", [" A", " C"]),
        ("choice", "B", "B", []),
        ("open", "<think> i guess </think> <answer> 3 </answer>", "3", []),
    ],
)
def test_the_deciding_tokens_weigh_more(
    collate: Collator, form: str, completion: str, decides: str, heavy: list[str]
) -> None:
    batch = collate(
        [
            Row(
                scene=None,
                lessons=(Lesson(prompt="what is 1 plus 2.", completion=completion, decides=decides, form=form),),
            )
        ]
    )
    tokens = collate.tokenizer.convert_ids_to_tokens(batch.targets_S[batch.weights_S > 1].tolist())
    assert tokens == heavy
