"""A judge of a user's own, which a recipe names: a class with the method ``judge`` of ``base.Judge``.

It is trusted code in this process, made with its options once for all answers; what it raises stops judging by name.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.errors import JudgeError, RecipeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.base import Workplace
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.user_code import UserCode, load, told

KEY = "self_improvement.judge.own.call"


class OwnJudge:
    """The judge that ``judge.own`` names."""

    def __init__(self, config: JudgeConfig, workplace: Workplace) -> None:
        """Raises RecipeError."""
        assert config.own is not None, "the section's own check"
        self.call = config.own.call
        self.name = f"own ({self.call.rpartition(':')[2]})"
        where = f"{KEY} = {self.call}"
        self.code = load_judge(config)
        try:
            self.own: Any = self.code.value(**config.own.options)
        except (Exception, SystemExit) as error:
            raise RecipeError(f"{where}: it cannot be made with its options: {told(error, self.code)}") from error
        if not callable(getattr(self.own, "judge", None)):
            raise RecipeError(f"{where}: it has no method judge(candidates), which returns a Verdict for each")

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Raises JudgeError for whatever the class raises or returns that is no list of verdicts."""
        try:
            verdicts = list(self.own.judge(candidates))
        except JudgeError:
            raise
        except (Exception, SystemExit) as error:  # an exit would end the run with a code that means something else
            raise JudgeError(f"judge {self.call} raised {told(error, self.code)}") from error
        odd = next((each for each in verdicts if not isinstance(each, Verdict)), None)
        if odd is not None:
            raise JudgeError(f"judge {self.call} returned {odd!r}, and a Verdict is needed")
        return verdicts

    def account(self) -> Mapping[str, Any]:
        """What the class says it took, where it says so. Raises JudgeError."""
        try:
            account = dict(getattr(self.own, "account", dict)())
            json.dumps(account)
        except (Exception, SystemExit) as error:
            raise JudgeError(
                f"judge {self.call}: account() is to return names with plain values, as {{'asked': 3}}: "
                f"{told(error, self.code)}"
            ) from error
        return account


def load_judge(config: JudgeConfig) -> UserCode:
    """Its code. Raises RecipeError."""
    assert config.own is not None, "the section's own check"
    return load(config.own.call, KEY)
