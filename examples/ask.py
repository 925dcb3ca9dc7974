# A trained model, asked in the words it was trained on. From the repository's root, once own_csv.yaml has run:
#   curr-reft merge runs/own-csv --out runs/own-csv-model
#   python examples/ask.py runs/own-csv-model examples/pictures/050.jpg "list the objects" --task classification --short
"""Asks a merged model about a picture: with transformers in this process, or with ``--server`` over HTTP.

What a model learned to answer is the question in the words of its recipe (``questions/templates.py``): which tags to
write, which frame boxes are in. Asked in other words it may answer in another form. Recipes with the embedded model use
the style short, all others the style full, unless ``questions.style`` says so.
"""

import argparse
import base64
import io
import json
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from curr_reft.data.frame import is_box
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor
from curr_reft.questions.templates import frame_words, style_named
from curr_reft.rewards.format import answer_block
from curr_reft.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder that curr-reft merge wrote")
    parser.add_argument("picture", type=Path)
    parser.add_argument("question")
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--short", action="store_true", help="the recipe's style is short")
    parser.add_argument("--server", metavar="URL", help="of an OpenAI-compatible server, as http://localhost:8000/v1")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    given = parser.parse_args()

    picture = ImageOps.exif_transpose(Image.open(given.picture)).convert("RGB")
    processor = load_chat_processor(ModelConfig(path=given.model))  # no weights
    frame = frame_words(processor.frame, [picture])
    prompt = style_named("short" if given.short else "full").prompt(
        given.task, "open", question=given.question, frame=frame
    )
    if given.server:
        said = ask_server(given.server, given.model, prompt, picture, given.max_new_tokens)
    else:
        said = ask_here(given.model, processor.processor, prompt, picture, given.max_new_tokens)
    print(said)

    block = answer_block(said)
    answer = None if block is None else TASKS[given.task].parse(block)
    if answer is not None and is_box(answer):
        answer = tuple(round(side) for side in processor.frame.to_original(answer, picture.size))  # pixels of the file
    print(f"answer: {answer}")


def ask_here(folder: str, processor: Any, prompt: str, picture: Image.Image, most: int) -> str:
    """``processor`` is what ``AutoProcessor.from_pretrained(folder)`` gives, without its need of torchvision."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", device_map="auto")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    tokens = model.generate(**inputs, max_new_tokens=most, do_sample=False)
    return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def ask_server(url: str, model: str, prompt: str, picture: Image.Image, most: int) -> str:
    """``vllm serve MODEL`` speaks this, and knows the model by the name it was served under."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "text", "text": prompt},
    ]
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": most,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{url.rstrip('/')}/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main()
