"""Processors for checkpoints whose own class cannot be built without torchvision.

The official processors of Qwen, SmolVLM, InternVL and LLaVA-OneVision demand a video processor, whose placeholder
raises where torchvision is missing. The classes here hold what images need, under the same files, so a folder they
save also loads with the official ones. Image processors are always those on PIL, even where torchvision is installed,
so that an image gives the same pixels on every machine.
"""

from typing import Any

from curr_reft.policy import working_torchvision  # noqa: F401

# isort: split
from transformers import (
    AutoTokenizer,
    Gemma3Processor,
    Idefics3Processor,
    InternVLProcessor,
    LlavaNextProcessor,
    LlavaOnevisionProcessor,
    ProcessorMixin,
)

# From its module: the name in the package itself is a placeholder that raises where torchvision is missing.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.processing_utils import ProcessingKwargs

_NAMES = {
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
    "idefics3": "Idefics3Processor",
    "smolvlm": "SmolVLMProcessor",
}
_TILE_IMAGES = {"idefics3": Idefics3ImageProcessorPil, "smolvlm": SmolVLMImageProcessorPil}


class ImageTextKwargs(ProcessingKwargs, total=False):
    """The defaults of Qwen's processors: transformers 5.24 deprecates its own class for them."""

    _defaults = {"text_kwargs": {"padding": False, "return_mm_token_type_ids": True}}  # type: ignore[misc]  # noqa: RUF012


class ImageTextProcessor(ProcessorMixin):
    """Image processor, tokenizer and chat template; videos are not supported."""

    valid_processor_kwargs = ImageTextKwargs
    return_mm_token_type_ids = True  # how transformers 5.24 and later read a default; before, from ``_defaults``
    model_type = "qwen2_5_vl"

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        self.image_token = getattr(tokenizer, "image_token", None) or "<|image_pad|>"
        self.video_token = getattr(tokenizer, "video_token", None) or "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """As many placeholders as the image has merged patches."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return self.image_token * (patches // self.image_processor.merge_size**2)

    def to_dict(self) -> dict[str, Any]:
        """Names the official class, so that ``AutoProcessor`` (with torchvision) opens the folder."""
        return {**super().to_dict(), "processor_class": _NAMES[self.model_type]}


class TileProcessor(Idefics3Processor):
    """Idefics3's processor for SmolVLM too, which writes an image's tiles into the prompt in the same way."""

    model_type = "idefics3"

    def to_dict(self) -> dict[str, Any]:
        """Names the official class."""
        return {**super().to_dict(), "processor_class": _NAMES[self.model_type]}


class _ImagesOnly:
    """Leaves the video processor out of an official class: its constructor gets none, and none is saved."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def to_dict(self) -> dict[str, Any]:
        """Names the official class."""
        return {**super().to_dict(), "processor_class": type(self).__mro__[2].__name__}  # type: ignore[misc]


class InternVLImages(_ImagesOnly, InternVLProcessor):
    """InternVL without videos."""


class LlavaOnevisionImages(_ImagesOnly, LlavaOnevisionProcessor):
    """LLaVA-OneVision without videos."""


OFFICIAL: dict[str, type[ProcessorMixin]] = {
    "internvl": InternVLImages,
    "llava_onevision": LlavaOnevisionImages,
    "llava_next": LlavaNextProcessor,
    "gemma3": Gemma3Processor,
}


def load_any_processor(path: str, model_type: str, **options: Any) -> ProcessorMixin:
    """The processor of a family, from a folder or a hub name. Raises ImportError, OSError or ValueError."""
    if model_type in _TILE_IMAGES:
        return load_tile_processor(path, model_type, **options)
    if model_type not in OFFICIAL:
        return load_image_text_processor(path, model_type, **options)
    tokenizer = AutoTokenizer.from_pretrained(path, **options)
    image_processor = AutoImageProcessor.from_pretrained(path, backend="pil", **options)
    made = OFFICIAL[model_type]
    settings, _ = made.get_processor_dict(path, **options)
    settings.setdefault("chat_template", tokenizer.chat_template)
    return made.from_args_and_dict([image_processor, tokenizer], settings)


def load_tile_processor(path: str, model_type: str, **options: Any) -> TileProcessor:
    """From a folder or a hub name."""
    tokenizer = AutoTokenizer.from_pretrained(path, **options)
    image_processor = _TILE_IMAGES[model_type].from_pretrained(path, revision=options.get("revision", "main"))
    settings, _ = TileProcessor.get_processor_dict(path, **options)
    processor = TileProcessor(
        image_processor,
        tokenizer,
        image_seq_len=settings.get("image_seq_len", 169),
        chat_template=settings.get("chat_template") or tokenizer.chat_template,
    )
    processor.model_type = model_type
    return processor


def load_image_text_processor(path: str, model_type: str, **options: Any) -> ImageTextProcessor:
    """From a folder or a hub name."""
    tokenizer = AutoTokenizer.from_pretrained(path, **options)
    image_processor = AutoImageProcessor.from_pretrained(path, backend="pil", **options)
    settings, _ = ImageTextProcessor.get_processor_dict(path, **options)
    template = settings.get("chat_template") or tokenizer.chat_template
    processor = ImageTextProcessor(image_processor, tokenizer, chat_template=template)
    processor.model_type = model_type
    return processor
