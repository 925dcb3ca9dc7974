"""Questions to tensors and tokens to text: chat template, image processing (kept by key), checks, the box frame.

Nothing is repaired in silence: a prompt with a word outside the vocabulary, too many tokens, or a placeholder of
an image that is not there raises DataError.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from curr_reft.data.frame import BoxFrame, FrameKind, Size, keep_size, resize_rule
from curr_reft.data.item import ImageSource, images_key
from curr_reft.errors import DataError
from curr_reft.policy.ahead import Ahead
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.families import Family, Positions
from curr_reft.policy.image_maker import ImageMaker
from curr_reft.policy.prompt_images import PromptImages
from curr_reft.policy.sight import Seen
from curr_reft.policy.types import EncodedPrompt

CACHE_BYTES = 256 << 20
"""Most bytes of processed images that are kept."""

_OPENED = re.compile(r"<think>\s*(</think>\s*)?\Z")
"""A reasoning block that a chat template opens (Qwen3-VL-Thinking, Qwen3.5) or leaves empty (Qwen3.5 told not to think)
where the answer starts. It is taken out of the prompt: the model writes its block itself, where it is graded."""

LARGEST_LENGTH = 1 << 20
"""A tokenizer without a limit says 1e30; a prompt beyond a million tokens is an error whatever the model."""


class Askable(Protocol):
    """What ``encode_question`` needs of a Question."""

    @property
    def prompt(self) -> str: ...
    @property
    def images(self) -> tuple[ImageSource, ...]: ...


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    inputs: dict[str, torch.Tensor]
    replacements: tuple[str, ...]  # what each image's placeholder becomes


def _bytes(pixels: _Pixels) -> int:
    return sum(tensor.nbytes for tensor in pixels.inputs.values())


def chat_text(processor: Any, prompt_text: str, image_count: int) -> str:
    """Return the chat of one user turn by the template of ``processor``, up to where the answer starts."""
    content = [*({"type": "image"} for _ in range(image_count)), {"type": "text", "text": prompt_text}]
    text: str = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=processor.chat_template or processor.tokenizer.chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    return text


class ChatProcessor:
    """Wraps a processor of transformers (``.processor``) for one model family.

    ``positions`` gives the rotary positions of a prompt (``families.positions_of``); without it (when tokens are only
    counted, and no model is loaded) prompts with images carry none. ``images`` says how they are processed for
    ``prefetch`` and where they are kept; without it nothing is done ahead.
    """

    def __init__(
        self,
        processor: Any,
        family: Family,
        *,
        positions: Positions | None = None,
        max_length: int | None = None,
        frame_kind: FrameKind | None = None,
        images: ModelConfig | None = None,
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family = family
        self.positions = positions
        limits = (int(self.tokenizer.model_max_length), max_length or LARGEST_LENGTH, LARGEST_LENGTH)
        self.max_length = min(limits)
        self.frame = BoxFrame(frame_kind or family.frame, _fit(processor.image_processor, family))
        self._cache: OrderedDict[tuple[str, ...], _Pixels] = OrderedDict()
        self._cached_bytes = 0
        self._images = PromptImages(
            ImageMaker(image_processor=processor.image_processor, options=family.image_options), images
        )
        # Each thread waits for a worker process, where there are any.
        self._ahead = Ahead[_Pixels]((images.image_workers or images.image_threads) if images else 0, _bytes)

    def encode(self, prompt_text: str, images: Sequence[Image.Image] = ()) -> EncodedPrompt:
        """One user turn that shows ``images`` and then says ``prompt_text``, up to where the answer starts.

        Raises DataError.
        """
        return self._encode(prompt_text, self._process(list(images)) if images else None, repr(prompt_text[:60]))

    def encode_question(self, question: Askable) -> EncodedPrompt:
        """``encode`` for a Question; images are opened and processed once per key. Raises DataError."""
        pixels = self._cached(question.images) if question.images else None
        return self._encode(question.prompt, pixels, _name(question))

    def encode_questions(self, questions: Sequence[Askable]) -> list[EncodedPrompt]:
        """``encode_question`` for all of them; worker processes, where there are any, share the images. Raises
        DataError."""
        if self._images.in_processes:
            self.prefetch(questions)
        return [self.encode_question(question) for question in questions]

    def prefetch(self, questions: Sequence[Askable]) -> None:
        """Begins to open and process the images of ``questions``, which are asked next, without waiting for it.

        An image that cannot be used raises when its question is encoded.
        """
        sets = {images_key(question.images): question.images for question in questions if question.images}
        wanted: dict[Hashable, Callable[[], _Pixels]] = {
            key: partial(self._open, each, ahead=True) for key, each in sets.items() if key not in self._cache
        }
        self._ahead.begin(wanted)

    def decode(self, tokens_T: torch.Tensor | Sequence[int]) -> str:
        """The text of a completion, without special tokens."""
        return self.tokenizer.decode(tokens_T, skip_special_tokens=True)

    def see(self, sizes: Sequence[Size]) -> Seen:
        """How the model sees images of these sizes (width, height) in one prompt. Raises DataError."""
        return self.family.look(self.processor.image_processor, sizes)

    def image_tokens(self, sizes: Sequence[Size]) -> list[int]:
        """How many tokens each of these images costs a prompt that shows them all, marks around it included."""
        return [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in self.replacements(sizes)]

    def replacements(self, sizes: Sequence[Size]) -> tuple[str, ...]:
        """What the placeholders of images of these sizes become in a prompt that shows them all. Raises DataError."""
        return self._replacements(self.see(sizes).made, len(sizes)) if sizes else ()

    def prompt_length(self, question: Askable) -> int:
        """Tokens of the prompt of ``question``, however many. Its images are not opened. Raises DataError."""
        replacements = self.replacements([image.size for image in question.images])
        return len(self._ids(self.prompt_text(question.prompt, replacements, _name(question))))

    def prompt_text(self, prompt: str, replacements: Sequence[str], source: str) -> str:
        """The chat up to where the answer starts, with ``replacements`` of its images. Raises DataError."""
        return self._prompt(prompt, replacements, source)[1]

    def tokens_of(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of prompts as ``prompt_text`` gives them, all at once."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=self._adds_start(texts[0]), return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def _encode(self, prompt_text: str, pixels: _Pixels | None, source: str) -> EncodedPrompt:
        text, expanded = self._prompt(prompt_text, pixels.replacements if pixels else (), source)
        ids = self._ids(expanded)
        problem = self.problem(ids, len(ids), expanded)
        if problem is not None:
            raise DataError(source, problem)
        input_ids_P = torch.tensor(ids, dtype=torch.int64)
        inputs = pixels.inputs if pixels else {}
        positions_AP = self.positions(input_ids_P, inputs) if self.positions else None
        is_image_P = input_ids_P == self.processor.image_token_id
        return EncodedPrompt(
            input_ids_P=input_ids_P,
            pixel_inputs=inputs,
            text=text,
            positions_AP=positions_AP,
            image_end=int(torch.nonzero(is_image_P).max()) + 1 if is_image_P.any() else 0,
        )

    def _prompt(self, prompt_text: str, replacements: Sequence[str], source: str) -> tuple[str, str]:
        """The chat up to where the answer starts: with a placeholder for each image, and with what replaces it."""
        image_count = len(replacements)
        try:
            text = _OPENED.sub("", chat_text(self.processor, prompt_text, image_count))
        except Exception as error:  # a template is a program of the model's folder: it may raise anything
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            raise DataError(source, f"the model's chat template fails on this question: {reason}") from error
        parts = text.split(self.processor.image_token)
        if len(parts) != image_count + 1:
            raise DataError(
                source,
                f"the prompt holds {len(parts) - 1} image placeholders ({self.processor.image_token}) for "
                f"{image_count} images; take the placeholder out of the question's text",
            )
        expanded = parts[0]
        for replacement, part in zip(replacements, parts[1:], strict=True):
            expanded += replacement + part
        return text, expanded

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=self._adds_start(text))["input_ids"]
        return ids

    def _adds_start(self, text: str) -> bool:
        """Whether the tokenizer puts its own start token before the prompt: unless the chat template has written it.

        The rule of ``ProcessorMixin.apply_chat_template`` in transformers (the templates of LLaVA leave it out).
        """
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def problem(self, ids: list[int], length: int, text: str) -> str | None:
        """Why the model cannot take a prompt of ``length`` tokens, if it cannot. ``ids`` are those of ``text``, which
        may leave out some of the tokens of its images."""
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            spans = self.tokenizer(text, add_special_tokens=self._adds_start(text), return_offsets_mapping=True)[
                "offset_mapping"
            ]
            words = sorted({text[a:b] for token, (a, b) in zip(ids, spans, strict=True) if token == unknown})
            return (
                f"not in the model's vocabulary: {', '.join(map(repr, words[:8]))}; reword the question, "
                "or use a model that knows these words"
            )
        if length > self.max_length:
            return (
                f"the prompt has {length} tokens and the model takes {self.max_length}; shorten the text or lower "
                "the image's pixels"
            )
        return None

    def _cached(self, sources: tuple[ImageSource, ...]) -> _Pixels:
        """Prompts with the same images get the very same tensors: the rollout and the packed row look for that."""
        key = images_key(sources)
        pixels = self._cache.get(key)
        if pixels is None:
            pixels = self._cache[key] = self._ahead.take(key, partial(self._open, sources, ahead=False))
            self._cached_bytes += _bytes(pixels)
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= _bytes(self._cache.popitem(last=False)[1])
        else:
            self._cache.move_to_end(key)
        return pixels

    def _open(self, sources: tuple[ImageSource, ...], *, ahead: bool) -> _Pixels:
        return self._pixels(self._images.open(sources, ahead=ahead), len(sources))

    def _process(self, images: list[Image.Image]) -> _Pixels:
        return self._pixels(self._images.process(images), len(images))

    def _pixels(self, made: Mapping[str, Any], count: int) -> _Pixels:
        """Of what the image processor ``made`` of ``count`` images."""
        inputs = {name: _as_tensor(made[name]) for name in self.family.pixel_axes if name in made}
        return _Pixels(inputs=inputs, replacements=self._replacements(made, count))

    def _replacements(self, made: Any, count: int) -> tuple[str, ...]:
        """What the placeholder of each image becomes."""
        return tuple(self.processor.replace_image_token(made, index) for index in range(count))


def _name(question: Askable) -> str:
    """Of a question in messages."""
    return str(getattr(question, "id", repr(question.prompt[:60])))


def _as_tensor(made: Any) -> torch.Tensor:
    """What an image processor made; tiles that come as one array for each image are joined to one list of tiles."""
    tiles = isinstance(made, list) and isinstance(made[0], np.ndarray)
    return torch.from_numpy(np.concatenate(made)) if tiles else torch.as_tensor(made)


def _fit(image_processor: Any, family: Family) -> Callable[[tuple[int, int]], tuple[int, int]]:
    """The size at which the model sees an image: the rule of the Qwen image processors, else the image as it is."""
    if "image_grid_thw" not in family.pixel_axes or not getattr(image_processor, "do_resize", True):
        return keep_size
    size = image_processor.size
    return resize_rule(
        image_processor.patch_size * image_processor.merge_size, size["shortest_edge"], size["longest_edge"]
    )
