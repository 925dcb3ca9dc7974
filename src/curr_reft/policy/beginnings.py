"""Prompts that begin alike: questions about one image share its tokens, and what stands before them.

A model that may share a prompt between completions may share a beginning between prompts, by the same argument: a
token's keys and values depend on the tokens before it alone. So the common beginning of questions about one image (chat
template, image, the words they begin with) stands in a row once.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from curr_reft.policy.types import EncodedPrompt


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """Prompts that share their first ``length`` tokens and all their images. One alone is its own trunk, whole."""

    members: tuple[int, ...]  # places of the prompts, ascending
    length: int


def together(keys: Sequence[Hashable]) -> list[int]:
    """Places in an order in which equal keys are neighbours: each key where it is met first, its places ascending."""
    first: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    return sorted(range(len(keys)), key=lambda place: first[keys[place]])


def shown_by(prompt: EncodedPrompt) -> int:
    """Equal for prompts in memory that show the very same tensor of pixels; text alone is like nothing else."""
    return id(prompt.pixel_inputs["pixel_values"]) if prompt.pixel_inputs else id(prompt)


def find_trunks(prompts: Sequence[EncodedPrompt]) -> list[Trunk]:
    """The trunks of ``prompts``, by their first member.

    Prompts with the same pixels share what all of them begin with, if that reaches behind their last image token (the
    images of a trunk are then those of each prompt), but for the last token of the shortest: every prompt has an end of
    its own, from which its completions follow.
    """
    members: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(shown_by(prompt) if prompt.image_end else -1 - place, []).append(place)
    trunks = []
    for places in members.values():
        length = _common_length([prompts[place] for place in places]) if len(places) > 1 else 0
        if length:
            trunks.append(Trunk(members=tuple(places), length=length))
        else:
            trunks += [Trunk(members=(place,), length=prompts[place].length) for place in places]
    return sorted(trunks, key=lambda trunk: trunk.members[0])


def repeated_tokens(prompts: Sequence[EncodedPrompt]) -> int:
    """Tokens of ``prompts`` that a row does not hold again, because it shares them."""
    return sum(trunk.length * (len(trunk.members) - 1) for trunk in find_trunks(prompts))


def _common_length(prompts: Sequence[EncodedPrompt]) -> int:
    """Tokens that all ``prompts`` begin with, at the same positions; 0 where these do not hold all images."""
    first = prompts[0]
    length = min(prompt.length for prompt in prompts) - 1
    same_P = torch.ones(length, dtype=torch.bool)
    for other in prompts[1:]:
        same_P &= other.input_ids_P[:length] == first.input_ids_P[:length]
        if first.positions_AP is not None and other.positions_AP is not None:
            same_P &= (other.positions_AP[:, :length] == first.positions_AP[:, :length]).all(0)
    common = int(same_P.long().cumprod(0).sum())
    return common if common >= max(prompt.image_end for prompt in prompts) else 0
