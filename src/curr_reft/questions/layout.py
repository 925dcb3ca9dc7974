"""Which layout a question gets: yes or no, and where the right letters stand. The one rule for balance.

Drafts of a group are dealt their layouts in blocks that hold each layout once, in an order drawn from (seed, split,
task, form, group, block). So yes and no, and the letters, are balanced over any run of drafts to within one block, and
a stream of any length needs one count and one block a group.
"""

from curr_reft.seeding import stream

Group = tuple[str, str, str, str, int]  # split, task, form, the form's own group, number of layouts


class Layouts:
    """Deals layouts. The order in which drafts come decides, so equal data in equal order is laid out equally."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dealt: dict[Group, int] = {}
        self._left: dict[Group, list[int]] = {}  # what is left of the current block

    def deal(self, *, split: str, task: str, form: str, group: str, layouts: int) -> int:
        """A layout in ``range(layouts)`` for the next draft of the group."""
        key = (split, task, form, group, layouts)
        left = self._left.setdefault(key, [])
        dealt = self._dealt.get(key, 0)
        if not left:
            left.extend(range(layouts))
            stream(self._seed, "layout", *key, dealt // layouts).shuffle(left)
        self._dealt[key] = dealt + 1
        return left.pop()
