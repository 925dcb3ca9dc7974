"""The embedded model's tokenizer: one token a word, a number, or a piece of JSON glue; exact round trip.

A text with a word outside the vocabulary gives ``[UNK]``, which the processor refuses.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from curr_reft.data.shapes import COLOURS, SHAPES, SIDE

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
UNKNOWN = "[UNK]"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO, UNKNOWN)

# A word carries the space before it; a number never does, so that each number is one token wherever it stands.
PATTERN = r' ?</?(?:think|answer)>| ?\{"bbox_2d":\[|\]\}| ?[A-Za-z]+|[0-9]+| ?\[|\n| |.'

WORDS = (
    *COLOURS,
    *SHAPES,
    *("find", "the", "list", "objects", "how", "many", "plus", "minus", "what", "is"),
    *("claim", "yes", "or", "no", "true", "false", "which", "letter", "letters"),
    *("i", "see", "guess", "at", "so", "answer", "and", "a", "it", "nothing", "none", "box"),
    *("A", "B", "C", "D", "E", "F", "G", "H"),
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>", '{"bbox_2d":[', "[")
GLUE = ("]}", "]", ",", ".", ":", "?", " ", "\n", "user", "assistant", "system")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary() -> list[str]:
    """All tokens in the order of their ids."""
    numbers = [str(n) for n in range(SIDE + 1)]
    spaced = [form for word in (*WORDS, *TAGS) for form in (word, " " + word)]
    return [*SPECIAL, *GLUE, *numbers, *spaced]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as transformers loads it, chat template included."""
    tokens = vocabulary()
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[START, VISION_START, VISION_END, IMAGE, VIDEO],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
