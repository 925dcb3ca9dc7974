"""The versioned rubric: what a judge is told, and the form in which it must reply.

A rubric is a text file of this package; its version and its hash are part of the cache's key and of every verdict, so a
changed word never meets old scores. The four criteria are the paper's (Curr-ReFT section 3.3). Its prompt was not
published; the wording is ours.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from curr_reft.data.item import ImageSource
from curr_reft.errors import UsageError
from curr_reft.improve.records import CRITERIA, Candidate

MEANING = {
    "accuracy": "is the final answer right for this question and these images?",
    "logic": "does the reasoning hold, step by step, without contradiction, and does it lead to the final answer?",
    "format": "is the answer given in the form that the question asks for?",
    "fluency": "is it clear, grammatical, to the point, free of repetition, and not cut off?",
}


@dataclass(frozen=True, kw_only=True)
class JudgePrompt:
    """One candidate as a judge is asked about it, in one user turn (not every model knows a system turn). Field names
    are those of a Question, so that the project's own processor encodes it."""

    id: str  # of the candidate, for messages
    images: tuple[ImageSource, ...]
    prompt: str  # stands behind the images


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A version of the rubric with its criteria in an order (another one only to measure what the order does)."""

    version: str
    text: str
    order: tuple[str, ...] = CRITERIA

    @cached_property
    def sha256(self) -> str:
        """Hash of all that is the same for every candidate."""
        return hashlib.sha256(self._instructions("").encode()).hexdigest()

    @property
    def name(self) -> str:
        """Version and hash, as verdicts carry it."""
        return f"{self.version} ({self.sha256[:12]})"

    def prompt(self, candidate: Candidate) -> JudgePrompt:
        """What is asked about ``candidate``. The marks around it are a hash of it, which no answer can hold itself."""
        question, answer = candidate.question.prompt, candidate.completion
        mark = hashlib.sha256(f"{question}\0{answer}".encode(errors="surrogatepass")).hexdigest()[:12]
        text = (
            f"{self._instructions(mark)}\n"
            f"[question {mark}]\n{question}\n[end of question {mark}]\n\n"
            f"[answer {mark}]\n{answer}\n[end of answer {mark}]"
        )
        return JudgePrompt(id=candidate.id, images=candidate.question.images, prompt=text)

    def schema(self) -> dict[str, Any]:
        """JSON schema of a reply. Ranges are checked when it is read: not every server's schema knows them."""
        names = ("comment", *self.order, "total")
        return {
            "type": "object",
            "properties": {name: {"type": "string" if name == "comment" else "number"} for name in names},
            "required": list(names),
            "additionalProperties": False,
        }

    def _instructions(self, mark: str) -> str:
        criteria = "\n".join(f"- {name}: {MEANING[name]}" for name in self.order)
        keys = ", ".join(f'"{name}"' for name in self.order)
        return self.text.replace("{criteria}", criteria).replace("{keys}", keys).replace("{mark}", mark)


def load_rubric(version: str, order: tuple[str, ...] = CRITERIA) -> Rubric:
    """The rubric of the package with this version. Raises UsageError naming those there are."""
    folder = resources.files("curr_reft.improve") / "rubrics"
    known = sorted(each.name.removesuffix(".txt") for each in folder.iterdir() if each.name.endswith(".txt"))
    if version not in known:
        raise UsageError(f"self_improvement.judge.rubric {version!r}: no such version; there are: {', '.join(known)}")
    return Rubric(version=version, text=(folder / f"{version}.txt").read_text(encoding="utf-8"), order=order)
