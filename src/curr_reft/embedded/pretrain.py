"""Pre-training of the embedded model: seeing, reasoning, then manners.

Several questions stand behind one shared image in a row: each attends to the image and to itself only, so that no
answer can be copied from another. Targets are the answers' tokens; the token that decides weighs more, because without
it the yes/no and letter tokens stay at chance while everything around them is learned.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from curr_reft.data.shapes import SIDE, Scene
from curr_reft.embedded import tokenizer as words
from curr_reft.embedded.architecture import MERGE, PATCH, TEMPORAL
from curr_reft.embedded.lessons import Lesson

IMAGE_MEAN, IMAGE_STD = 0.5, 0.5
CELLS = SIDE // PATCH  # patches a side
TOKENS = CELLS // MERGE  # visual tokens a side


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scene (or none) and the lessons behind it."""

    scene: Scene | None
    lessons: tuple[Lesson, ...]


def patches(scenes: Sequence[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """(pixel_values [N * 36, 1176], image_grid_thw [N, 3]) as the family's image processor makes them."""
    pixels = np.stack([np.asarray(scene.open(), dtype=np.float32) for scene in scenes])
    images = (torch.from_numpy(pixels) / 255 - IMAGE_MEAN) / IMAGE_STD
    n = len(scenes)
    tiles = images.reshape(n, TOKENS, MERGE, PATCH, TOKENS, MERGE, PATCH, 3)
    tiles = tiles.permute(0, 1, 4, 2, 5, 7, 3, 6)  # place of the token, place in the token, channel, pixel
    tiles = tiles.unsqueeze(6).expand(*tiles.shape[:6], TEMPORAL, PATCH, PATCH)  # a still image is two equal frames
    return tiles.reshape(n * CELLS * CELLS, -1), torch.tensor([[1, CELLS, CELLS]] * n)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one forward: N rows of L tokens, S scored ones."""

    input_ids_NL: torch.Tensor
    positions_3NL: torch.Tensor
    mask_N1LL: torch.Tensor  # True: may attend
    pixel_values: torch.Tensor | None
    image_grid_thw: torch.Tensor | None
    rows_S: torch.Tensor
    places_S: torch.Tensor  # the place whose output is scored
    targets_S: torch.Tensor
    weights_S: torch.Tensor


class Collator:
    """Rows to batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, deciding_weight: float) -> None:
        self.tokenizer = tokenizer
        self.deciding_weight = deciding_weight

        def ids(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False).input_ids

        self.ids = ids
        self.head = ids(f"{words.START}user\n")
        self.image = ids(words.VISION_START + words.IMAGE * TOKENS * TOKENS + words.VISION_END)
        self.tail = ids(f"{words.END}\n{words.START}assistant\n")
        self.end = ids(words.END)

    def __call__(self, rows: Sequence[Row]) -> Batch:
        built = [self._row(row) for row in rows]
        n, length = len(rows), max(len(ids) for ids, *_ in built)
        input_ids = torch.full((n, length), self.tokenizer.pad_token_id)
        positions = torch.zeros(3, n, length, dtype=torch.long)
        mask = torch.eye(length, dtype=torch.bool).repeat(n, 1, 1)  # padding attends to itself: no empty softmax
        scored: list[tuple[int, int, int, float]] = []
        for i, (ids, place, segment, targets) in enumerate(built):
            size = len(ids)
            input_ids[i, :size] = torch.tensor(ids)
            positions[:, i, :size] = torch.tensor(place).T
            segments = torch.tensor(segment)
            visible = (segments[None, :] == 0) | (segments[None, :] == segments[:, None])
            mask[i, :size, :size] = visible & torch.ones(size, size, dtype=torch.bool).tril()
            scored += [(i, *target) for target in targets]
        scenes = [row.scene for row in rows if row.scene is not None]
        pixel_values, grid = patches(scenes) if scenes else (None, None)
        rows_S, places_S, targets_S, weights_S = zip(*scored, strict=True)
        return Batch(
            input_ids_NL=input_ids,
            positions_3NL=positions,
            mask_N1LL=mask[:, None],
            pixel_values=pixel_values,
            image_grid_thw=grid,
            rows_S=torch.tensor(rows_S),
            places_S=torch.tensor(places_S),
            targets_S=torch.tensor(targets_S),
            weights_S=torch.tensor(weights_S),
        )

    def _row(self, row: Row) -> tuple[list[int], list[list[int]], list[int], list[tuple[int, int, float]]]:
        """(ids, 3-D positions, segment of each token (0: shared), scored (place, target, weight))."""
        ids = list(self.head)
        places = [[i] * 3 for i in range(len(ids))]
        if row.scene is not None:
            start = len(ids) + 1  # after the vision start token
            grid = [[start, start + y, start + x] for y in range(TOKENS) for x in range(TOKENS)]
            ids += self.image
            places += [[start - 1] * 3, *grid, [start + TOKENS] * 3]
        first = max(places[-1]) + 1
        segment = [0] * len(ids)
        targets: list[tuple[int, int, float]] = []
        for number, lesson in enumerate(row.lessons, start=1):
            question = self.ids(lesson.prompt) + self.tail
            answer = self.ids(lesson.completion) + self.end
            deciding = self._deciding(lesson, answer)
            base = len(ids) + len(question) - 1
            for k, token in enumerate(answer):
                targets.append((base + k, token, self.deciding_weight if k in deciding else 1.0))
            inputs = question + answer[:-1]  # the end token is a target, never an input
            places += [[first + k] * 3 for k in range(len(inputs))]
            segment += [number] * len(inputs)
            ids += inputs
        return ids, places, segment, targets

    def _deciding(self, lesson: Lesson, answer: list[int]) -> set[int]:
        """Places of the yes/no or letter tokens in the answer block; empty for the open form.

        A bare answer has none: its first token also chooses to be bare, and weighing that would change how often.
        """
        if lesson.form == "open" or lesson.completion == lesson.decides:
            return set()
        decides, tail = self.ids(" " + lesson.decides), self.ids(" </answer>") + self.end
        first = len(answer) - len(tail) - len(decides)
        return {first + k for k, token in enumerate(decides) if token not in self.ids(",")}


def loss(model: Qwen2_5_VLForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy of the answers' tokens."""
    hidden_NLW = model.model(
        input_ids=batch.input_ids_NL,
        attention_mask=batch.mask_N1LL,
        position_ids=batch.positions_3NL,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        use_cache=False,
    ).last_hidden_state
    logits_SV = model.lm_head(hidden_NLW[batch.rows_S, batch.places_S])
    losses_S = functional.cross_entropy(logits_SV, batch.targets_S, reduction="none")
    return (losses_S * batch.weights_S).sum() / batch.weights_S.sum()


def optimizers(model: torch.nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings, norms, biases and the patch projection."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 and "embed" not in name
        (matrices if is_matrix else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(
    model: Qwen2_5_VLForConditionalGeneration,
    collate: Collator,
    rows_of_step: Callable[[int, random.Random], Sequence[Row]],
    *,
    steps: int,
    muon_lr: float,
    adam_lr: float,
    seed: int,
    log: Callable[[int, float], None],
) -> None:
    """Cosine to a tenth, 20 steps of warm-up, gradient norm clipped to 1. Changes ``model`` in place."""
    chosen = optimizers(model, muon_lr, adam_lr)
    peaks = [group["lr"] for optimizer in chosen for group in optimizer.param_groups]
    model.train()
    for step in range(steps):
        rate = min(1.0, (step + 1) / 20) * (0.1 + 0.45 * (1 + np.cos(np.pi * step / steps)))
        groups = [group for optimizer in chosen for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate
        batch = collate(rows_of_step(step, random.Random(seed * 1_000_003 + step)))
        value = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        log(step, float(value.detach()))
    model.eval()
