"""``SharedPrefixGRPOTrainer``: TRL's GRPOTrainer with our rollout and packed row, for people who stay with TRL.

Rewards, advantages, losses, logging, callbacks, checkpoints and evaluation are TRL's own code. Replaced is where its
unit, the row, pays for the same prompt again and again: a prompt's images are processed once, the model computes it
once to generate and once to score, and a group stays together in a micro-batch instead of being shuffled apart. What
is not supported is refused (``trl_limits.py``). In several methods it follows private ones of TRL: hence the version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from curr_reft.errors import UsageError
from curr_reft.integrations.trl_limits import check_options, check_version, unsupported_model
from curr_reft.integrations.trl_rows import groups_of, row_scores
from curr_reft.policy.attention import NAME
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.families import family_of, positions_of
from curr_reft.policy.policy import Policy
from curr_reft.policy.processor import ChatProcessor
from curr_reft.policy.rollout import rollout
from curr_reft.policy.sharing import check_shared_layers, check_shared_prefix
from curr_reft.policy.types import EncodedPrompt

try:
    import trl
    from trl import GRPOConfig, GRPOTrainer
    from trl.data_utils import is_conversational, prepare_multimodal_messages
    from trl.trainer.utils import split_tensor_dict
except ImportError as error:
    raise UsageError(f"curr_reft.integrations.trl needs trl (pip install 'curr-reft[trl]'): {error}") from error

_IMAGE_COLUMNS = ("image", "images")


class SharedPrefixGRPOTrainer(GRPOTrainer):
    """A drop-in for ``trl.GRPOTrainer``: the same arguments. Raises UsageError for what it does not support.

    ``per_device_train_batch_size * steps_per_generation`` must be a multiple of ``num_generations``, and
    ``per_device_train_batch_size`` itself should be: a group cut in two pays for its prompt twice.
    """

    # TRL's own annotations say None or a base class where its code puts the real thing.
    args: Any
    model: Any
    num_generations: Any
    num_generations_eval: Any
    _buffered_inputs: Any
    _logs: Any

    def __init__(self, model: Any, reward_funcs: Any = None, args: GRPOConfig | None = None, **given: Any) -> None:
        check_version(trl.__version__)
        if args is not None:
            check_options(args, **given)
        super().__init__(model, reward_funcs, args, **given)
        check_options(self.args)
        self._policy = self._as_policy()
        self._sampling_bias_V = self._policy.token_bias_V.clone()
        self._sampling_bias_V[self.generation_kwargs.get("suppress_tokens") or []] = torch.finfo(torch.float32).min
        self._rows: list[EncodedPrompt] = []  # the prompt of every row that is generated or scored
        self._given: Sequence[Mapping[str, Any]] = ()  # the dataset's rows, as reward functions are to see them

    def _as_policy(self) -> Policy:
        """The trained model as our rollout and packed row take it. Scores run over the whole vocabulary, as TRL's."""
        model = self.accelerator.unwrap_model(self.model)
        core: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        try:
            family = family_of(core.config)
            check_shared_prefix(core.config)
            check_shared_layers(core)
        except UsageError as error:
            raise unsupported_model(error) from None
        for each in (core, self.ref_model):
            if each is not None:
                self.accelerator.unwrap_model(each).set_attn_implementation({"text_config": NAME})
        vocabulary = core.get_output_embeddings().weight.shape[0]
        return Policy(
            model=model,
            processor=ChatProcessor(self.processing_class, family),
            family=family,
            device=self.accelerator.device,
            packed=True,
            end_ids=tuple(self.eos_token_ids),
            pad_id=self._tokenizer.pad_token_id,
            token_bias_V=torch.zeros(vocabulary, device=self.accelerator.device),
            source=core.config.name_or_path,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but rows are not shuffled before they are split into micro-batches: groups stay together."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_tensor_dict(self._generate_and_score_completions(generation_batch), parts)
        return self._buffered_inputs[self._step % parts]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._given = inputs
        output = super()._generate_and_score_completions([_with_images(row) for row in inputs])
        output["encoded_prompts"] = self._rows
        if self.log_multimodal and any(_images(row) for row in inputs):
            self._logs["images"].extend(_images(row) for row in inputs)
        return output

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        return super()._calculate_rewards(self._given, prompts, completions, completion_ids_list)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Every prompt is tokenized, and its images processed, once for its G neighbouring rows.

        The images go no further than ``self._rows``: TRL would process them a second time.
        """
        G = self.num_generations if self.model.training else self.num_generations_eval
        leaders = prompts[::G]
        if len(prompts) % G or any(prompt != leaders[row // G] for row, prompt in enumerate(prompts)):
            raise UsageError(
                f"{len(prompts)} rows do not hold whole groups of num_generations = {G}; set "
                "per_device_train_batch_size * steps_per_generation (and per_device_eval_batch_size) to a multiple"
            )
        self._rows = [encoded for prompt in leaders for encoded in [self._encode(prompt)] * G]
        return [row.input_ids_P.tolist() for row in self._rows], None, {}

    def _encode(self, prompt: Any) -> EncodedPrompt:
        (ids,), _, fields = super()._tokenize_prompts([prompt])
        input_ids_P = torch.tensor(ids)
        inputs = {
            name: value if isinstance(value, torch.Tensor) else torch.as_tensor(np.array(value))
            for name, value in fields.items()
            if name in self._policy.family.pixel_axes
        }
        positions = positions_of(self._policy.core, self._policy.family)
        return EncodedPrompt(
            input_ids_P=input_ids_P, pixel_inputs=inputs, text="", positions_AP=positions(input_ids_P, inputs)
        )

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        """The completions of all rows, in order. The seed comes from torch's generator, which checkpoints hold."""
        sampling = SamplingConfig(
            group_size=num_generations,
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
        )
        policy = replace(self._policy, token_bias_V=self._sampling_bias_V)
        seed = int(torch.randint(1 << 62, ()))
        groups = rollout(policy, self._rows[::num_generations], sampling, seed=seed)
        return [completion.tokens_T.tolist() for group in groups for completion in group.completions], None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._rows = inputs["encoded_prompts"]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """The scores of all rows, computed group by group; at most ``batch_size`` rows in one forward."""
        N, T = len(input_ids), logits_to_keep
        batch_size = batch_size or N
        policy = replace(self._policy, model=model)
        parts = []
        for start in range(0, N, batch_size):
            rows = slice(start, start + batch_size)
            groups = groups_of(self._rows[rows], input_ids[rows, -T:], attention_mask[rows, -T:])
            with self.accelerator.autocast():
                parts.append(row_scores(policy, groups, T, self.temperature, entropy=compute_entropy))
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies) if compute_entropy else None, None


def _images(row: Mapping[str, Any]) -> list[Any]:
    """The images in the columns of a dataset's row."""
    if "images" in row:
        return list(row["images"] or ())
    return [row["image"]] if row.get("image") is not None else []


def _with_images(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its images inside its prompt, and without the columns from which TRL would process them again."""
    kept = {name: value for name, value in row.items() if name not in _IMAGE_COLUMNS}
    images = _images(row)
    if images:
        if not is_conversational(dict(row)):
            raise UsageError("prompts with images must be conversational (a list of messages), as TRL demands")
        kept["prompt"] = prepare_multimodal_messages(row["prompt"], images=images)
    return kept
