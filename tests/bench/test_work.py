"""The counted work against what torch counts, and the shapes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from curr_reft.bench.measure import SUBJECT
from curr_reft.bench.ours import SubjectSampler, build_policy
from curr_reft.bench.shape import DEFAULT_SHAPES, Shape, parse_shape
from curr_reft.bench.subject import build_model, build_processor, image_of, text_of
from curr_reft.bench.work import PROMPTS, Options, Product, distinct, flops, sizes_of, step_work, training_work
from curr_reft.errors import UsageError
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import wrap_model
from curr_reft.policy.rollout import rollout

SMALL = Shape(P=97, C=5, G=2)
LINEAR = ("aten.mm", "aten.addmm", "aten.convolution", "aten.convolution_backward")


def test_sizes_told_to_the_parent_are_those_of_the_subject() -> None:
    assert sizes_of(build_model().config) == SUBJECT


@pytest.mark.parametrize("shape", DEFAULT_SHAPES, ids=str)
def test_prompts_have_the_length_of_their_shape(shape: Shape) -> None:
    policy = wrap_model(build_model(), build_processor(), ModelConfig())
    (question, other) = SubjectSampler(shape=shape).draw(1)
    prompt = policy.processor.encode_question(question)
    assert prompt.length == shape.P
    assert int((prompt.input_ids_P == policy.core.config.image_token_id).sum()) == shape.visual
    assert len(prompt.pixel_inputs["pixel_values"]) == shape.patches
    assert question.images[0].key != other.images[0].key


def test_visual_tokens_are_those_of_the_published_table() -> None:
    assert [(shape.P, shape.visual) for shape in DEFAULT_SHAPES] == [
        (309, 256), (309, 256), (309, 256), (565, 512), (309, 256), (97, 64),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["309,32", "309,32,8,1", "a,b,c", "19,32,8", "309,1,8", "309,32,1", "309,-3,8"])
def test_a_shape_that_cannot_be_measured_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be P,C,G"):
        parse_shape(text)


def test_linear_layers_are_counted_as_torch_counts_them() -> None:
    """A plain forward and backward of the rows, by transformers alone."""
    model, processor = build_model(), build_processor()
    rows = PROMPTS * SMALL.G
    texts = [processor.apply_chat_template(_messages(row), add_generation_prompt=True) for row in range(rows)]
    inputs = processor(images=[[image_of(SMALL, row)] for row in range(rows)], text=texts, return_tensors="pt")
    ids = torch.cat((inputs["input_ids"], torch.full((rows, SMALL.C), 100)), dim=1)
    assert ids.shape == (rows, SMALL.P + SMALL.C)
    with FlopCounterMode(display=False) as counter:
        logits = model(
            input_ids=ids,
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            use_cache=False,
            logits_to_keep=torch.arange(SMALL.P + SMALL.C - 1),
        ).logits
        logits.sum().backward()
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    linear = sum(counted.get(name, 0) for name in LINEAR)
    ours = [product for product in training_work(SUBJECT, SMALL, Options(), shared=False) if product.batch == 1]
    assert linear == flops(ours)


@pytest.mark.parametrize("one_prompt_pass", [False, True])
def test_linear_layers_of_our_step_are_counted_as_torch_counts_them(one_prompt_pass: bool) -> None:
    """The forward and backward of the packed row; of its completions alone, on the rollout's pass over the prompts."""
    options = Options(one_prompt_pass=one_prompt_pass)
    policy = build_policy(build_model(), options)
    prompts = policy.processor.encode_questions(SubjectSampler(shape=SMALL).draw(1))
    sampling = SamplingConfig(group_size=SMALL.G, max_new_tokens=SMALL.C)
    groups = rollout(policy, prompts, sampling, seed=0, graph="prompts" if one_prompt_pass else "vision")
    with FlopCounterMode(display=False) as counter:
        packed_logprobs(policy, pack(groups, policy.family)).sum().backward()
    counted = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    linear = sum(counted.get(name, 0) for name in LINEAR)
    ours = [product for product in training_work(SUBJECT, SMALL, options, shared=True) if product.batch == 1]
    assert linear == flops(ours)


def test_shared_work_of_one_completion_is_that_of_a_row() -> None:
    """But for the tower's second pass, the last token, which is no input here, and the output layer everywhere."""
    one = Shape(P=565, C=32, G=1)
    shared, row = (flops(step_work(SUBJECT, one, Options(), shared=each)) for each in (True, False))
    assert 0.7 * row < shared < row


def test_the_predicted_ratio_grows_with_the_group_and_falls_with_the_answer() -> None:
    def ratio(P: int, C: int, G: int, options: Options | None = None) -> float:
        work = (step_work(SUBJECT, Shape(P=P, C=C, G=G), options or Options(), shared=each) for each in (False, True))
        theirs, ours = map(flops, work)
        return theirs / ours

    # At most G, and a third more where the tower is all there is: it runs three times instead of four.
    assert ratio(309, 32, 4) < ratio(309, 32, 8) < ratio(309, 32, 16) < 16
    assert ratio(309, 128, 8) < ratio(309, 32, 8) < 8 < ratio(565, 32, 8) < 8 * 4 / 3
    assert 1 < ratio(309, 128, 8, Options(lora=True)) < 8


def test_distinct_products_keep_the_work() -> None:
    work = step_work(SUBJECT, SMALL, Options(gradient_checkpointing=True), shared=True)
    joined = list(distinct(work))
    assert flops(joined) == pytest.approx(flops(work))
    assert len(joined) < len(work)
    assert Product(M=2, K=3, N=5, batch=7, times=0.5).flops == 210


def _messages(row: int) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text_of(SMALL, row)}]}]
