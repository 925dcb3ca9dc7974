"""Section of the recipe for phase 2: sample, judge, select, fine-tune (Curr-ReFT section 3.3)."""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from curr_reft.config import Config
from curr_reft.policy.config import ModelConfig
from curr_reft.train.config import OptimizerConfig, SftConfig
from curr_reft.user_code import split_call


class PoolConfig(Config):
    """One domain of queries and how many answers may be kept from it."""

    queries: int = Field(ge=1, description="queries drawn from the pool")
    quota: int = Field(ge=1, description="answers kept at most")


class PricesConfig(Config):
    """What a server asks for a million tokens, in any one currency."""

    input: float = Field(ge=0, description="of prompts, images included")
    output: float = Field(ge=0, description="of replies")


class EndpointConfig(Config):
    """A judge behind an OpenAI-compatible server: a hosted model, vLLM, ``transformers serve`` (docs/judges.md)."""

    base_url: str = Field(description="http(s) address up to and with /v1, without a key in it")
    model: str = Field(min_length=1, description="the model's name on that server")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY",
        description="NAME of the environment variable that holds the key, never the key; null: the server needs none",
    )
    temperature: float | None = Field(0.0, ge=0, le=2, description="null: not sent, for models that refuse it")
    max_tokens: int = Field(400, ge=50, description="a reply is cut, and no verdict, at this many tokens")
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="the name under which max_tokens is sent; OpenAI's reasoning models take the second"
    )
    concurrency: int = Field(8, ge=1, le=256, description="requests under way at once")
    requests_per_minute: float | None = Field(None, gt=0, description="null: no limit but concurrency")
    tokens_per_minute: float | None = Field(
        None, gt=0, description="counted before sending: prompt, images and max_tokens; null: no limit"
    )
    timeout: float = Field(
        60.0, gt=0, description="seconds for a whole request, from its start to the end of the reply"
    )
    attempts: int = Field(
        6,
        ge=1,
        description="tries for an answer: a busy, failing or silent server is tried again, more and more slowly",
    )
    image_max_pixels: int = Field(1_048_576, ge=784, description="images are shrunk to at most this many pixels")
    image_max_bytes: int = Field(
        4_000_000, ge=10_000, description="as PNG where that is not larger, else as JPEG, shrunk until it fits"
    )
    prices: PricesConfig | None = Field(None, description="for the estimate and the budget; null: nothing is counted")
    budget: float | None = Field(
        None,
        gt=0,
        description="judging stops before it costs more, in the currency of prices, over all rounds and resumes",
    )

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address, as https://api.openai.com/v1")
        if not base_url.isprintable() or " " in base_url or parts.port == 0:  # port raises beyond 65535
            raise ValueError("must be an address without blanks and control characters, with a port from 1 to 65535")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment; keys come from the environment only")
        return base_url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError(
                "must be the NAME of an environment variable in capitals, as OPENAI_API_KEY; a key never stands in a "
                "recipe: export it, and if this was one, renew it"
            )
        return name

    @model_validator(mode="after")
    def _check(self) -> "EndpointConfig":
        if self.budget is not None and self.prices is None:
            raise ValueError("budget: needs prices (prices: {input: 2.5, output: 10}), or leave budget out")
        return self


class LocalJudgeConfig(Config):
    """A judge in this process: an image-text-to-text model, asked in batches through the project's own rollout."""

    model: ModelConfig = Field(description="the judging model")
    temperature: float = Field(0.0, ge=0, description="0 takes the most likely token")
    max_new_tokens: int = Field(400, ge=1, description="a reply is cut, and no verdict, at this many tokens")
    batch: int = Field(32, ge=1, description="answers judged together; verdicts are kept after each batch")


class OwnJudgeConfig(Config):
    """A judge in code of your own (docs/extending.md)."""

    call: str = Field(description="its class: path/to/file.py:Class (from the recipe's folder) or package.module:Class")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments that it is made with")

    @field_validator("call")
    @classmethod
    def _check_call(cls, call: str) -> str:
        split_call(call)
        return call


class JudgeConfig(Config):
    """Who scores the answers. A new judge is one file and one line in ``improve.judges.JUDGES``."""

    kind: Literal["rules", "endpoint", "local", "own"] = Field(
        "rules",
        description="rules: transparent, needs a truth; endpoint: a model behind a server; local: a model here; own: a "
        "class of your own",
    )
    rubric: str = Field("1", description="version of the rubric that models judge by (improve/rubrics/)")
    endpoint: EndpointConfig | None = Field(None, description="needed by kind endpoint")
    local: LocalJudgeConfig | None = Field(None, description="needed by kind local")
    own: OwnJudgeConfig | None = Field(None, description="needed by kind own")
    cache: str | None = Field(
        None,
        min_length=1,
        description="file of verdicts that runs may share; null: verdicts.sqlite beside the candidates",
    )

    @model_validator(mode="after")
    def _check(self) -> "JudgeConfig":
        if self.kind != "rules" and getattr(self, self.kind) is None:
            examples = {
                "endpoint": "{base_url: ..., model: ...}",
                "local": "{model: {path: ...}}",
                "own": "{call: judges.py:Mine}",
            }
            example = examples[self.kind]
            raise ValueError(f"kind: {self.kind} needs the section {self.kind} ({self.kind}: {example})")
        return self


class SelectionConfig(Config):
    """What is kept of the answers that pass, beside the quotas: answers that differ."""

    most_alike: int | None = Field(
        3,
        ge=1,
        description="most kept answers of a domain that are near-duplicates of one another, whatever they answer; "
        "null: no limit",
    )
    alike_words: int = Field(
        40, ge=1, description="shorter answers are alike by nature and are not limited by most_alike"
    )
    length_bands: int = Field(
        1,
        ge=1,
        le=20,
        description="a quota is filled in turns from so many bands of length, equally many answers each, so that a "
        "judge who likes long answers does not choose long ones only; 1: by the total alone",
    )


class SelfImprovementConfig(Config):
    """Rejection sampling and the fine-tuning on what was kept."""

    pools: dict[str, PoolConfig] = Field(
        description="domain -> pool; a domain is detection, classification, math or arithmetic (text only)"
    )
    samples: int = Field(8, ge=1, description="answers sampled for each query")
    temperature: float = Field(1.0, gt=0, description="sampling temperature")
    threshold: float = Field(
        85.0, ge=0, le=100, description="an answer is kept when its total is strictly above this (paper: 85)"
    )
    save_every: int = Field(
        64, ge=1, description="queries whose answers are sampled together and kept; a killed run repeats no more"
    )
    selection: SelectionConfig = SelectionConfig()
    judge: JudgeConfig = JudgeConfig()
    sft: SftConfig = SftConfig(steps=2000, optimizer=OptimizerConfig(lr=2e-7, schedule="cosine", warmup=0.05))
    rounds: int = Field(
        1,
        ge=1,
        description="how often phase 2 is done; before each further one the last stage is trained again, from what the "
        "round before came to",
    )
    round_steps: int | None = Field(
        None, ge=1, description="updates of the last stage in each further round; null: as planned in the curriculum"
    )

    @model_validator(mode="after")
    def _check(self) -> "SelfImprovementConfig":
        if not self.pools:
            raise ValueError("at least one pool is needed")
        return self
