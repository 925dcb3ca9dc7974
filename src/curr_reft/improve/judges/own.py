"""A judge of a user's own, which a recipe names: a class with the method ``judge`` of ``base.Judge``.

It is trusted code in this process, made with its options once for all answers; what it raises stops judging by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.errors import JudgeError, RecipeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.base import Workplace
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.user_code import UserCode, load

KEY = "self_improvement.judge.own.call"


class OwnJudge:
    """The judge that ``judge.own`` names."""

    def __init__(self, config: JudgeConfig, workplace: Workplace) -> None:
        """Raises RecipeError."""
        assert config.own is not None, "the section's own check"
        self.call = config.own.call
        self.name = f"own ({self.call.rpartition(':')[2]})"
        where = f"{KEY} = {self.call}"
        try:
            self.own: Any = load_judge(config).value(**config.own.options)
        except RecipeError:
            raise
        except Exception as error:
            raise RecipeError(
                f"{where}: it cannot be made with its options: {type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(self.own, "judge", None)):
            raise RecipeError(f"{where}: it has no method judge(candidates), which returns a Verdict for each")

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Raises JudgeError for whatever the class raises or returns that is no list of verdicts."""
        try:
            verdicts = list(self.own.judge(candidates))
        except JudgeError:
            raise
        except Exception as error:
            raise JudgeError(f"judge {self.call} raised {type(error).__name__}: {error}") from error
        odd = next((each for each in verdicts if not isinstance(each, Verdict)), None)
        if odd is not None:
            raise JudgeError(f"judge {self.call} returned {odd!r}, and a Verdict is needed")
        return verdicts

    def account(self) -> Mapping[str, Any]:
        account: Mapping[str, Any] = getattr(self.own, "account", dict)()
        return account


def load_judge(config: JudgeConfig) -> UserCode:
    """Its code. Raises RecipeError."""
    assert config.own is not None, "the section's own check"
    return load(config.own.call, KEY)
