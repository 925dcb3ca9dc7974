"""Section of the recipe for phase 2: sample, judge, select, fine-tune (Curr-ReFT section 3.3)."""

from typing import Literal

from pydantic import Field, model_validator

from curr_reft.config import Config
from curr_reft.train.config import OptimizerConfig, SftConfig


class PoolConfig(Config):
    """One domain of queries and how many answers may be kept from it."""

    queries: int = Field(ge=1, description="queries drawn from the pool")
    quota: int = Field(ge=1, description="answers kept at most")


class JudgeConfig(Config):
    """Who scores the answers. A new judge is one file and one line in ``improve.judge.JUDGES``."""

    kind: Literal["rules"] = Field("rules", description="rules: transparent, needs a truth; see improve/rules.py")


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
    judge: JudgeConfig = JudgeConfig()
    sft: SftConfig = SftConfig(steps=2000, optimizer=OptimizerConfig(lr=2e-7, schedule="cosine", warmup=0.05))

    @model_validator(mode="after")
    def _check(self) -> "SelfImprovementConfig":
        if not self.pools:
            raise ValueError("at least one pool is needed")
        return self
