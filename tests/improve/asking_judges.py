"""Answers to be judged, and a judge behind an endpoint, for tests of what is asked and what it costs."""

from pathlib import Path
from typing import Any

from judge_server import Server
from PIL import Image

from curr_reft.data.images import DrawnImage
from curr_reft.improve.config import EndpointConfig, JudgeConfig, PricesConfig
from curr_reft.improve.judges import Judged, Workplace, judge_all
from curr_reft.improve.records import Candidate
from curr_reft.questions.question import Question
from curr_reft.rewards.grading import grade

PRICES = PricesConfig(input=1000.0, output=10000.0)  # a verdict of 100 and 20 tokens costs 0.3


def candidate(number: int | str, images: tuple[Any, ...] = (), text: str = "") -> Candidate:
    asked = Question(
        id=f"q{number}/open", origin=f"q{number}", task="math", form="open", prompt=f"how many? ({number})", truth="5",
        domain="math", images=images,
    )  # fmt: skip
    completion = text or f"<think> i see </think> <answer> {number} </answer>"
    return Candidate(question=asked, sample=0, completion=completion, truncated=False, grade=grade(asked, completion))


def endpoint(server: Server | str, **options: Any) -> JudgeConfig:
    url = server if isinstance(server, str) else server.url
    return JudgeConfig(
        kind="endpoint",
        endpoint=EndpointConfig(
            **{"base_url": url, "model": "m", "api_key_env": None, "timeout": 5.0, "concurrency": 4, **options}
        ),
    )


def judge(config: JudgeConfig, candidates: list[Candidate], folder: Path, **options: Any) -> Judged:
    return judge_all(config, candidates, Workplace(cache=folder / "verdicts.sqlite", say=print, **options))


def picture(color: str = "red", size: tuple[int, int] = (40, 30)) -> DrawnImage:
    return DrawnImage(key=f"{color} {size}", size=size, draw=lambda: Image.new("RGB", size, color))
