"""One tree of exceptions. A message says the field or ``file:line``, the value, the rule, and the way out.

``exit_code`` is what the command line returns: 1 a run that failed, 2 refused input or use, 3 no space.
"""


class CurrReftError(Exception):
    """Base of all errors that are reported to the user as one message, without a traceback."""

    exit_code = 1


class UsageError(CurrReftError):
    """The command cannot be carried out as asked (a used run directory, a missing folder, ...)."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, or a flag that overrides it, breaks the schema or contradicts itself."""


class DataError(UsageError):
    """A row, an image or a truth is not usable. ``source`` is ``file:line`` (or the name of a generator).

    ``problems`` holds every (source, reason) found, so that one run shows all of them.
    """

    def __init__(self, source: str, reason: str, problems: tuple[tuple[str, str], ...] = ()) -> None:
        self.source = source
        self.reason = reason
        self.problems = problems or ((source, reason),)
        super().__init__(f"{source}: {reason}")


class DamagedError(UsageError):
    """A file that a result is computed from is not as this program wrote it. ``problem`` is the message without the
    remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        super().__init__(f"{problem}; {remedy}")


class GradeError(CurrReftError):
    """A grader broke its own contract (not: an answer that is wrong)."""


class JudgeError(CurrReftError):
    """A judge gave no usable verdict."""


class CheckpointError(CurrReftError):
    """A checkpoint or a published model is damaged, incomplete or not the one its manifest names."""


class TrainingError(CurrReftError):
    """Training cannot go on (a non-finite loss, too many grader failures, ...)."""


class DiskFullError(CurrReftError):
    """A write failed for lack of space."""

    exit_code = 3


class LostLockError(CurrReftError):
    """The run directory is no longer held by this process alone."""


class ProcessError(CurrReftError):
    """One of the processes of a run was lost."""


class ElsewhereError(CurrReftError):
    """Another process of the run failed and says why; this one ends with its exit code, and says nothing."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"another process of the run failed (exit code {exit_code})")
