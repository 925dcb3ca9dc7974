"""The matrix products of a step, counted from the shapes: what the hardware has to do at least.

``step_work(..., shared=True)`` is a step that computes every prompt once for its group, and an image's features once
for rollout and training (the weights are the same). ``shared=False`` is one whose unit is the row, as TRL's is on a CPU
(its output layer runs at every position there). Counted are the linear layers, the patch embedding and the two
products of attention; a causal triangle counts half. Norms, rotations, softmax, sampling and the optimizer are not:
they are the overhead that ``bound_share`` measures. Imports nothing heavy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from curr_reft.bench.shape import Shape

PROMPTS = 2  # of a step


@dataclass(frozen=True, kw_only=True)
class Product:
    """``times`` batches of ``batch`` products (M x K) @ (K x N)."""

    M: int
    K: int
    N: int
    batch: int = 1
    times: float = 1.0

    @property
    def flops(self) -> float:
        return 2.0 * self.times * self.batch * self.M * self.K * self.N


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the measured model."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    vision_width: int
    vision_inner: int
    vision_layers: int
    vision_heads: int
    full_layers: int  # vision layers that see the whole image
    window: int  # patches of a window of the others
    patch_values: int  # numbers in a patch
    merged: int  # patches of a visual token


def sizes_of(config: Any) -> Sizes:
    """From a Qwen2.5-VL configuration of transformers."""
    text, vision = config.text_config, config.vision_config
    return Sizes(
        width=text.hidden_size,
        inner=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        vocabulary=text.vocab_size,
        vision_width=vision.hidden_size,
        vision_inner=vision.intermediate_size,
        vision_layers=vision.depth,
        vision_heads=vision.num_heads,
        full_layers=len(vision.fullatt_block_indexes),
        window=(vision.window_size // vision.patch_size) ** 2,
        patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        merged=vision.spatial_merge_size**2,
    )


@dataclass(frozen=True, kw_only=True)
class Options:
    """Variants of the step, the same for all that are measured."""

    lora: bool = False  # adapters of rank 16 on the language model; everything else is frozen
    gradient_checkpointing: bool = False
    one_prompt_pass: bool = False  # ours alone: training goes on from the rollout's forward over the prompts


def step_work(sizes: Sizes, shape: Shape, options: Options, *, shared: bool) -> list[Product]:
    """Generation and training of one step of two prompts. Adapters themselves are not counted: they are small."""
    return [
        *generation_work(sizes, shape, shared=shared),
        *training_work(sizes, shape, options, shared=shared),
    ]


def generation_work(sizes: Sizes, shape: Shape, *, shared: bool) -> list[Product]:
    """Prefill, and C - 1 decoding steps: the first token comes from the prefill, the last is never an input."""
    rows = PROMPTS * shape.G
    copies = PROMPTS if shared else rows  # of each prompt that are computed
    decode = [*_language(sizes, rows), *_decode_attention(sizes, shape, shared=shared), _head(sizes, rows)]
    return [
        *vision_work(sizes, copies, shape.patches),
        *_language(sizes, copies * shape.P),
        *_prompt_attention(sizes, copies, shape.P),
        _head(sizes, copies),
        *_repeat(decode, shape.C - 1),
    ]


def training_work(sizes: Sizes, shape: Shape, options: Options, *, shared: bool) -> list[Product]:
    """Forward and backward."""
    P, C, G = shape.P, shape.C, shape.G
    rows = PROMPTS * G
    vision = vision_work(sizes, PROMPTS if shared else rows, shape.patches)
    language = _language(sizes, PROMPTS * (P + G * (C - 1)) if shared else rows * (P + C))
    head = [_head(sizes, rows * C if shared else rows * (P + C - 1))]
    attention = _training_attention(sizes, shape, shared=shared)
    work = [*(() if shared else vision), *language, *head, *attention]
    if shared and options.one_prompt_pass:
        completions, last = _language(sizes, rows * (C - 1)), _head(sizes, rows * (C - 1))
        work = [*completions, last, *_completion_attention(sizes, shape)]
        language, head = [*completions, *_language(sizes, PROMPTS * P)], [last, _head(sizes, PROMPTS)]
    # Backward: a product for the gradient of the input and one for that of the weights; attention has two for each.
    if options.lora:
        work += [*language, *head, *_repeat(attention, 2)]
    else:
        work += _repeat([*vision, *language, *head, *attention], 2)
        work.append(replace(vision[0], times=-1.0))  # pixels need no gradient
    if options.gradient_checkpointing:
        work += [*(() if options.lora else vision), *language, *attention]  # forward once more
    return work


def flops(products: list[Product]) -> float:
    return sum(product.flops for product in products)


def vision_work(sizes: Sizes, images: int, patches: int) -> list[Product]:
    """One forward pass of the tower and its projector over ``images`` of ``patches`` patches each."""
    tokens, D, inner = images * patches, sizes.vision_width, sizes.vision_inner
    head = D // sizes.vision_heads
    layer = [
        Product(M=tokens, K=D, N=3 * D),
        Product(M=tokens, K=D, N=D),
        Product(M=tokens, K=D, N=inner, times=2),
        Product(M=tokens, K=inner, N=D),
    ]
    window = min(sizes.window, patches)
    wide = sizes.merged * D
    return [
        Product(M=tokens, K=sizes.patch_values, N=D),
        *_repeat(layer, sizes.vision_layers),
        *_repeat(_scores(images * sizes.vision_heads, patches, head, patches), sizes.full_layers),
        *_repeat(
            _scores(images * sizes.vision_heads * (patches // window), window, head, window),
            sizes.vision_layers - sizes.full_layers,
        ),
        Product(M=tokens // sizes.merged, K=wide, N=wide),
        Product(M=tokens // sizes.merged, K=wide, N=sizes.width),
    ]


def _language(sizes: Sizes, tokens: int) -> list[Product]:
    keys = sizes.width // sizes.heads * sizes.kv_heads
    layer = [
        Product(M=tokens, K=sizes.width, N=sizes.width, times=2),
        Product(M=tokens, K=sizes.width, N=keys, times=2),
        Product(M=tokens, K=sizes.width, N=sizes.inner, times=2),
        Product(M=tokens, K=sizes.inner, N=sizes.width),
    ]
    return _repeat(layer, sizes.layers)


def _head(sizes: Sizes, tokens: int) -> Product:
    return Product(M=tokens, K=sizes.width, N=sizes.vocabulary)


def _prompt_attention(sizes: Sizes, copies: int, P: int) -> list[Product]:
    scores = _scores(copies * sizes.heads, P, sizes.width // sizes.heads, P)
    return _repeat(scores, sizes.layers / 2)  # causal


def _training_attention(sizes: Sizes, shape: Shape, *, shared: bool) -> list[Product]:
    if not shared:
        return _prompt_attention(sizes, PROMPTS * shape.G, shape.P + shape.C)
    return [*_prompt_attention(sizes, PROMPTS, shape.P), *_completion_attention(sizes, shape)]


def _completion_attention(sizes: Sizes, shape: Shape) -> list[Product]:
    """Of completions over the prompt that they share, and over themselves."""
    head, rows, T = sizes.width // sizes.heads, PROMPTS * shape.G, shape.C - 1
    group = _scores(PROMPTS * sizes.kv_heads, shape.G * sizes.heads // sizes.kv_heads * T, head, shape.P)
    own = _repeat(_scores(rows * sizes.heads, T, head, T), 0.5)
    return _repeat([*group, *own], sizes.layers)


def _decode_attention(sizes: Sizes, shape: Shape, *, shared: bool) -> list[Product]:
    """Of one token a row, its own part half full on average."""
    head, rows, repeats = sizes.width // sizes.heads, PROMPTS * shape.G, sizes.heads // sizes.kv_heads
    if shared:
        prefix = _scores(PROMPTS * sizes.kv_heads, shape.G * repeats, head, shape.P)
    else:
        prefix = _scores(rows * sizes.kv_heads, repeats, head, shape.P)
    own = _scores(rows * sizes.kv_heads, repeats, head, max(1, shape.C // 2))
    return _repeat([*prefix, *own], sizes.layers)


def _scores(batch: int, queries: int, head: int, keys: int) -> list[Product]:
    """Queries times keys, and weights times values."""
    return [
        Product(batch=batch, M=queries, K=head, N=keys),
        Product(batch=batch, M=queries, K=keys, N=head),
    ]


def _repeat(products: list[Product], times: float) -> list[Product]:
    return [replace(product, times=product.times * times) for product in products]


def distinct(products: list[Product]) -> Iterator[Product]:
    """Products of one shape joined: the list of what has to be timed."""
    times: dict[tuple[int, int, int, int], float] = {}
    for each in products:
        key = (each.M, each.K, each.N, each.batch)
        times[key] = times.get(key, 0.0) + each.times
    for (M, K, N, batch), count in times.items():
        yield Product(M=M, K=K, N=N, batch=batch, times=count)
