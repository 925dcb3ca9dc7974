"""What an answer is, per task: parse, score, write, false claims. A new task is one file and one line in ``TASKS``.

Importing this package is light: neither torch nor sympy is loaded (math-verify runs in worker processes).
"""

from curr_reft.tasks.base import Pool, Task, TaskOptions
from curr_reft.tasks.classification import Classification
from curr_reft.tasks.dense_detection import DenseDetection
from curr_reft.tasks.detection import Detection
from curr_reft.tasks.judged import Judged
from curr_reft.tasks.math import Math
from curr_reft.tasks.points import Points
from curr_reft.tasks.status import GradingTimeoutError, Status, VerificationError

TASKS: dict[str, Task] = {
    task.name: task for task in (Detection(), Classification(), Math(), DenseDetection(), Points(), Judged())
}

__all__ = ["TASKS", "GradingTimeoutError", "Pool", "Status", "Task", "TaskOptions", "VerificationError"]
