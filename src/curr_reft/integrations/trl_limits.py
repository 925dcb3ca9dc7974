"""What the TRL adapter refuses, with the reason and the way out: nothing is ignored in silence."""

from typing import Any

from curr_reft.errors import UsageError

MINOR = "1.16"
"""The adapter overrides methods that TRL does not promise to keep; it is tested with this minor version."""

_WAY_OUT = "Leave the option out, or use trl.GRPOTrainer"
GENERATION_KWARGS = frozenset({"suppress_tokens"})


def check_version(installed: str) -> None:
    """Raises UsageError when ``installed`` is another minor version of TRL than the tested one."""
    if installed.split(".")[:2] != MINOR.split("."):
        raise UsageError(
            f"trl {installed} is installed, but SharedPrefixGRPOTrainer overrides private methods of trl {MINOR} and "
            "is tested with it alone; install it (pip install 'curr-reft[trl]'), use trl.GRPOTrainer, or train with "
            "curr-reft run, which does not depend on trl"
        )


def check_options(args: Any, **given: Any) -> None:
    """Raises UsageError naming every option that is not supported.

    ``args`` is a GRPOConfig, ``given`` the other arguments of the trainer.
    """
    found = [
        f"{name} is given, and completions come from one turn of the model alone"
        for name in ("tools", "environment_factory", "rollout_func")
        if given.get(name)
    ]
    switched_on = {
        "use_vllm": "completions are sampled by the model itself",
        "use_transformers_continuous_batching": "completions are sampled by the model itself",
        "cache_implementation": "the rollout keeps keys and values in its own way",
        "use_liger_kernel": "it replaces layers that have not been tested here",
        "cast_lm_head_to_fp32": "it has not been tested here",
        "torch_compile": "packed rows differ in length from step to step",
        "router_aux_loss_coef": "mixtures of experts are not supported",
        "fsdp": "the rollout calls the whole model",
        "deepspeed": "the rollout calls the whole model",
        "min_p": "the rollout samples with temperature, top_p and top_k",
    }
    found += [
        f"{name} = {getattr(args, name)}: {reason}" for name, reason in switched_on.items() if getattr(args, name)
    ]
    if args.repetition_penalty != 1.0:
        found.append(f"repetition_penalty = {args.repetition_penalty}: {switched_on['min_p']}")
    unknown = sorted(set(args.generation_kwargs or ()) - GENERATION_KWARGS)
    if unknown:
        found.append(f"generation_kwargs has {', '.join(unknown)}: only {', '.join(GENERATION_KWARGS)} is read")
    if args.world_size > 1:
        found.append(f"{args.world_size} processes: it has been tested in one")
    if found:
        raise UsageError(f"SharedPrefixGRPOTrainer does not support: {'; '.join(found)}. {_WAY_OUT}")


def unsupported_model(error: UsageError) -> UsageError:
    """The family table's refusal, with the way out of somebody who uses TRL."""
    reason = str(error).split(". Set model.packed")[0]
    return UsageError(f"SharedPrefixGRPOTrainer cannot train this model: {reason}. Use trl.GRPOTrainer")
