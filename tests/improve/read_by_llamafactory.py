"""Run by the interpreter of a LLaMA-Factory installation: prints what its own code makes of a folder's ``kept`` set.

    python read_by_llamafactory.py DIR MODEL

Rows go through its loader, its template for Qwen2-VL and its tokenization for supervised training, with the tokenizer
of MODEL. The last line printed is a list of ``{"messages", "pictures": [[size, RGB in hexadecimal], ...],
"placeholders", "learned"}``: image tokens of the row, and the text that a loss is computed for. Nothing of this project
is imported. (It imports torchaudio, which nothing here uses: an empty module of that name does.)
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

from llamafactory.data.loader import _get_merged_dataset, get_dataset
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

IGNORED = -100


def picture(path: str) -> tuple[Any, str]:
    with Image.open(path) as image:
        return list(image.size), image.convert("RGB").tobytes().hex()


def main(folder: str, model: str) -> None:
    data = DataArguments(dataset=["kept"], dataset_dir=folder, template="qwen2_vl", overwrite_cache=True)
    named = ModelArguments(model_name_or_path=model)
    training = TrainingArguments(output_dir=f"{folder}/out", use_cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    template = get_template_and_fix_tokenizer(tokenizer, data)
    # What its plug-in for pictures asks of a processor; the whole one of Qwen wants torchvision.
    processor: Any = SimpleNamespace(
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(model), video_processor=object()
    )
    rows = _get_merged_dataset(data.dataset, named, data, training, stage="sft")
    encoded = get_dataset(template, named, data, training, "sft", tokenizer, processor)["train_dataset"]
    assert len(encoded) == len(rows), "LLaMA-Factory dropped rows"
    print(json.dumps([_told(row, tokens, tokenizer) for row, tokens in zip(rows, encoded, strict=True)]))


def _told(row: dict[str, Any], tokens: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    return {
        "messages": [*row["_prompt"], *row["_response"]],
        "pictures": [picture(path) for path in tokens["images"] or ()],
        "placeholders": tokenizer.decode(tokens["input_ids"]).count("<|image_pad|>"),
        "learned": tokenizer.decode([token for token in tokens["labels"] if token != IGNORED]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
