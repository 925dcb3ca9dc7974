"""T21: a policy that wants to emit image and video tokens: they are never sampled, and the run goes on.

Its weights want it, so that whatever computes logits (packed or plain, rollout, training, greedy answers) meets it.
"""

import json
import re
import shutil
from pathlib import Path

import many
import pyarrow.parquet
import pytest
import tiny_run
import torch
from safetensors.torch import load_file, save_file

from curr_reft.cli import main
from curr_reft.errors import DataError
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.load import load_policy, model_folder
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.tasks.status import Status

MARKS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
SAMPLING = SamplingConfig(group_size=4, max_new_tokens=12)


@pytest.fixture(scope="module")
def wanting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with an output layer of its own, whose rows of the marks point where the others point most.

    What comes out of the last norm is dominated by its mean over prompts, so that such a row beats every other.
    """
    folder = Path(shutil.copytree(model_folder("embedded"), tmp_path_factory.mktemp("wanting") / "model"))
    policy = load_policy("embedded")
    embedding = policy.core.get_output_embeddings().weight.detach()
    seen: list[torch.Tensor] = []
    policy.core.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].reshape(-1, inputs[0].shape[-1]))
    )
    rollout(policy, [policy.processor.encode("what is 1 plus 1 ?")], SAMPLING, seed=0)
    hidden_H = torch.cat(seen).float()
    head = embedding.clone()
    for name in MARKS:
        head[getattr(policy.core.config, name)] = 100.0 * hidden_H.mean(0) / hidden_H.mean(0).norm()
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    tensors["lm_head.weight"] = head.to(next(iter(tensors.values())).dtype)
    save_file(tensors, weights, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def marks_of(policy: Policy) -> set[int]:
    return {getattr(policy.core.config, name) for name in MARKS}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_they_are_never_sampled(wanting: Path, packed: bool, temperature: float) -> None:
    policy = load_policy(ModelConfig(path=str(wanting), packed=packed))
    wanted: list[bool] = []

    def look(module: object, inputs: object, logits: torch.Tensor) -> None:
        wanted.extend(each in marks_of(policy) for each in logits.reshape(-1, logits.shape[-1]).argmax(-1).tolist())

    policy.core.get_output_embeddings().register_forward_hook(look)
    prompt = policy.processor.encode("what is 1 plus 1 ?")
    (group,) = rollout(policy, [prompt], SAMPLING.model_copy(update={"temperature": temperature}), seed=0)
    assert sum(wanted) / len(wanted) > 0.9  # it does want nothing else
    for completion in group.completions:
        assert not marks_of(policy) & set(completion.tokens_T.tolist())
        assert completion.logprobs_T.isfinite().all()


def test_one_that_is_given_to_learn_is_refused(wanting: Path) -> None:
    policy = load_policy(str(wanting))
    mark = policy.processor.tokenizer.convert_ids_to_tokens(policy.core.config.image_token_id)
    with pytest.raises(DataError, match="the model never writes"):
        policy.completion_tokens(f"<answer> {mark} </answer>")


def test_prompts_too_long_are_refused_by_row_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, bad in (("train", (2, 4)), ("validation", ()), ("test", (3,))):
        questions = [f"what is {number} plus {len(split)} ?" for number in range(1, 5)]
        rows = [
            {"problem": question + " plus 1" * (3000 if place in bad else 0), "solution": "5", "task": "math"}
            for place, question in enumerate(questions, start=1)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: [{"path": str(tmp_path / f"{split}.jsonl")}] for split in ("train", "validation", "test")}
    flags = [
        "--data.kind",
        "files",
        "--data.files",
        json.dumps(files),
        "--self_improvement",
        "null",
        "--evaluation.models",
        "[curr_rl]",
    ]
    run = tmp_path / "run"
    assert main(["run", str(tiny_run.RECIPE), "--output", str(run), *flags]) == 2
    said = capsys.readouterr().err
    told = re.findall(r"^(?:error: )?(\w+\.jsonl:\d+): .* tokens and the model takes", said, re.MULTILINE)
    assert told == ["train.jsonl:2", "train.jsonl:4", "test.jsonl:3"]
    assert not (run / "stages").exists()


def test_a_run_with_such_a_policy_goes_through(wanting: Path, tmp_path: Path) -> None:
    flags = ["--model.path", wanting, "--questions.style", "short", "--sft", "null", *many.SHORT]
    flags += ["--curriculum.total_steps", "4", "--checkpoint.every", "4"]
    log = tmp_path / "log"
    assert tiny_run.run("--output", tmp_path / "run", *flags, log=log) == 0, log.read_text()
    tokenizer = load_policy(str(wanting)).processor.tokenizer
    config = json.loads((wanting / "config.json").read_text())
    marks = [tokenizer.convert_ids_to_tokens(config[name]) for name in MARKS]
    written = [
        row
        for file in (tmp_path / "run").rglob("rollouts/*.parquet")
        for row in pyarrow.parquet.read_table(file).to_pylist()
    ]
    assert len(written) == 4 * 3 * 4
    assert not [row for row in written if any(mark in row["completion"] for mark in marks)]
    assert {row["status"] for row in written} <= {str(each) for each in Status}
    assert all(row["loss"] is not None for row in tiny_run.rows(tmp_path / "run") if row["kind"] == "train")
