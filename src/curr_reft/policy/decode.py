"""Decoding one token at a time for many completions whose prompts' keys and values are kept once.

Queries of a group are folded into the head-group axis for the prompt's part of attention; each row has its own
preallocated suffix. Rows that have ended leave the batch.
"""

import torch


class DecodeLayout:
    """The layout of a decode step: A active rows, one token each (letters as in CONTRIBUTING.md; R heads a key head).

    Rows start as N groups of G in order. ``keep`` drops rows, and groups without rows.
    """

    def __init__(
        self,
        prefix: dict[int, tuple[torch.Tensor, torch.Tensor]],  # layer -> keys, values (N, K, P, D)
        prompt_lengths_N: torch.Tensor,
        group_size: int,
        max_new_tokens: int,
    ) -> None:
        keys = next(iter(prefix.values()))[0]
        N, K, P, D = keys.shape
        self.prefix = prefix
        hidden = torch.arange(P, device=keys.device) >= prompt_lengths_N[:, None]
        self.prefix_mask = torch.zeros((N, 1, 1, P), dtype=keys.dtype, device=keys.device)
        self.prefix_mask.masked_fill_(hidden[:, None, None], -torch.inf)
        self.suffix = {
            layer: (
                keys.new_empty((N * group_size, K, max_new_tokens, D)),
                keys.new_empty((N * group_size, K, max_new_tokens, D)),
            )
            for layer in prefix
        }
        self.rows = N * group_size
        self.step = 0
        self.group_of = [n for n in range(N) for _ in range(group_size)]  # of each active row
        self.width = group_size  # rows a group has room for in the rectangle
        # Place of each row in the rectangle of groups x width; none: all places are taken, in order.
        self.slot_A: torch.Tensor | None = None

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """One token a row: query (1, H, A, D), key and value (1, K, A, D), rotated -> (1, A, H, D)."""
        prefix_k, prefix_v = self.prefix[layer]
        N, K, P, D = prefix_k.shape
        A, H = query.shape[2], query.shape[1]
        R, G, T = H // K, self.width, self.step
        suffix_k, suffix_v = (states[:A] for states in self.suffix[layer])
        suffix_k[:, :, T] = key[0].transpose(0, 1)
        suffix_v[:, :, T] = value[0].transpose(0, 1)
        query_A = query[0].transpose(0, 1).reshape(A, K, R, D) * scale

        scores_own = query_A @ suffix_k[:, :, : T + 1].transpose(2, 3)  # (A, K, R, T+1)
        folded = self._to_rectangle(query_A).view(N, G, K, R, D).transpose(1, 2).reshape(N, K, G * R, D)
        scores_prefix = (folded @ prefix_k.transpose(2, 3)).add_(self.prefix_mask)
        scores_prefix = self._to_rows(scores_prefix.view(N, K, G, R, P).transpose(1, 2).reshape(N * G, K, R, P))
        weights = torch.cat((scores_prefix, scores_own), dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)

        folded = self._to_rectangle(weights[..., :P]).view(N, G, K, R, P).transpose(1, 2).reshape(N, K, G * R, P)
        out_prefix = (folded @ prefix_v).view(N, K, G, R, D).transpose(1, 2).reshape(N * G, K, R, D)
        out = (weights[..., P:] @ suffix_v[:, :, : T + 1]).add_(self._to_rows(out_prefix))
        return out.view(1, A, H, D)

    def _to_rectangle(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        if self.slot_A is None:
            return rows
        places = rows.new_zeros((len(self.prefix_mask) * self.width, *rows.shape[1:]))
        return places.index_copy_(0, self.slot_A, rows)

    def _to_rows(self, places: torch.Tensor) -> torch.Tensor:
        return places if self.slot_A is None else places.index_select(0, self.slot_A)

    def keep(self, rows: list[int]) -> None:
        """Goes on with the active rows numbered ``rows`` (ascending)."""
        device = self.prefix_mask.device
        index = torch.tensor(rows, device=device)
        for keys, values in self.suffix.values():
            for states in (keys, values):
                states[: len(rows), :, : self.step] = states[index, :, : self.step]
        old_groups = [self.group_of[row] for row in rows]
        groups = sorted(set(old_groups))
        if len(groups) < len(self.prefix_mask):
            kept = torch.tensor(groups, device=device)
            self.prefix_mask = self.prefix_mask[kept]
            self.prefix = {layer: (keys[kept], values[kept]) for layer, (keys, values) in self.prefix.items()}
        number = {group: n for n, group in enumerate(groups)}
        self.group_of = [number[group] for group in old_groups]
        counts = [0] * len(groups)
        slots = []
        for group in self.group_of:
            slots.append((group, counts[group]))
            counts[group] += 1
        self.width = max(counts)
        full = len(rows) == self.width * len(groups)
        self.slot_A = (
            None if full else torch.tensor([group * self.width + place for group, place in slots], device=device)
        )
        self.rows = len(rows)
