"""What judging costs: tokens estimated before, counted after, and a budget that is never exceeded knowingly.

Tokens of a text are estimated as a third of its UTF-8 bytes (English has four to five letters a token, formulas and
other scripts fewer); of an image as its pixels / 28^2 (Qwen2.5-VL, arXiv 2502.13923, section 2.1: 14-pixel patches,
four to a token), at least 255 (the least that OpenAI counts for an image in high detail: 85 and 170 a tile). Both are
meant to be too high rather than too low. The server's own count replaces them as soon as it is known.
"""

import math
import threading

from curr_reft.improve.config import PricesConfig
from curr_reft.improve.rubric import JudgePrompt

IMAGE_LEAST = 255
PIXELS_OF_A_TOKEN = 28 * 28


def estimate_tokens(prompt: JudgePrompt, image_max_pixels: int) -> int:
    """Tokens of a prompt, images included; nothing is opened but headers. Raises DataError."""
    text = len(prompt.prompt.encode(errors="replace"))
    images = 0
    for image in prompt.images:
        width, height = image.size
        images += max(IMAGE_LEAST, math.ceil(min(width * height, image_max_pixels) / PIXELS_OF_A_TOKEN))
    return math.ceil(text / 3) + images


def cost_of(prices: PricesConfig | None, prompt_tokens: int, completion_tokens: int) -> float:
    """In the currency of the prices; 0 without prices."""
    if prices is None:
        return 0.0
    return (prompt_tokens * prices.input + completion_tokens * prices.output) / 1e6


class Budget:
    """What may still be spent. A request is counted at its highest price while it is under way, so that requests at
    the same time do not spend the same money; where that is too much, the next waits for what they really cost."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self.limit = limit
        self.spent = spent
        self._held = 0.0
        self._under_way = 0
        self._changed = threading.Condition()

    def hold(self, most: float) -> bool:
        """Whether a request of at most ``most`` may begin; if so, it counts until it is settled."""
        with self._changed:
            while self._beyond(most) and self._under_way:
                self._changed.wait()
            if self._beyond(most):
                return False
            self._held += most
            self._under_way += 1
            return True

    def settle(self, most: float, cost: float) -> None:
        """A request that was held at ``most`` is over and has cost ``cost``."""
        with self._changed:
            self._held -= most
            self._under_way -= 1
            self.spent += cost
            self._changed.notify_all()

    def _beyond(self, most: float) -> bool:
        return self.limit is not None and self.spent + self._held + most > self.limit
