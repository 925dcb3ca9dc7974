"""Several questions about one image: what their prompts share is computed once, and nothing changes."""

from dataclasses import replace

import pytest
import tiny_models
import torch
from scoring import scored
from test_varlen import plain_kernel

from curr_reft.errors import TrainingError
from curr_reft.policy.beginnings import find_trunks, together
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.families import image_marks
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import group_tokens, pack, pack_prompts, row_tokens, split_groups
from curr_reft.policy.rollout import rollout
from curr_reft.policy.row import Row
from curr_reft.policy.selfcheck import check_packed
from curr_reft.policy.types import Completion, EncodedPrompt, Group

exact = pytest.mark.parametrize("family_policy", tiny_models.EXACT, indirect=True)
SAMPLING = SamplingConfig(group_size=3, max_new_tokens=7)
QUESTIONS = ("find the red circle", "how many red", "list the objects")


@pytest.fixture
def family_policy(request, folders) -> Policy:
    return load_policy(ModelConfig(path=str(folders(request.param))))


def ask(policy: Policy, images, questions=QUESTIONS) -> list[EncodedPrompt]:
    first, *rest = (policy.processor.encode(question, images) for question in questions)
    return [first, *(replace(each, pixel_inputs=first.pixel_inputs) for each in rest)]


def mixed(policy: Policy, picture) -> list[EncodedPrompt]:
    """Three questions about two images of different size, and two about a third one, once in the same words; between
    them one about an image of its own, and text alone."""
    three = ask(policy, [picture(0, 84, 84), picture(1, 56, 112)])
    two = ask(policy, [picture(2, 112, 60)], ("how many red", "how many red"))
    alone = policy.processor.encode("find the red circle", [picture(3, 56, 56)])
    text = policy.processor.encode("how many red plus how many blue")
    return [three[0], two[0], text, three[1], alone, two[1], three[2]]


@pytest.fixture
def asked(family_policy, picture) -> list[EncodedPrompt]:
    return mixed(family_policy, picture)


def ragged(prompts: list[EncodedPrompt]) -> list[Group]:
    generator = torch.Generator().manual_seed(3)
    words = tiny_models.build_tokenizer("idefics").get_vocab()["0"]

    def completion(length: int) -> Completion:
        tokens_T = torch.randint(words, words + 150, (length,), generator=generator)
        return Completion(tokens_T=tokens_T, logprobs_T=torch.zeros(length), text="", truncated=False)

    return [
        Group(prompt=prompt, completions=tuple(completion(length) for length in (5, 1, 3)[: 3 - n % 2]))
        for n, prompt in enumerate(prompts)
    ]


def assert_same(ours, theirs):
    assert theirs[0].std() > 0.5  # a model that says the same everywhere would show nothing
    assert (ours[0] - theirs[0]).abs().max() <= 2e-5
    assert ours[1].keys() == theirs[1].keys()
    whole = torch.cat([gradient.flatten() for gradient in theirs[1].values()]).norm()
    for name, gradient in theirs[1].items():
        # The second term: a bias of keys without rotary positions has no gradient but for rounding.
        assert (ours[1][name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name


def plain(policy: Policy, groups: list[Group]) -> torch.Tensor:
    return torch.cat([plain_logprobs(policy, group) for group in groups])


@exact
def test_training_is_exact(family_policy, asked):
    policy, groups = family_policy, ragged(asked)
    batch = pack(groups, policy.family)
    images = sum(prompt.image_end for prompt in (asked[0], asked[0], asked[1]))
    assert batch.length == row_tokens(groups) <= sum(map(group_tokens, groups)) - images  # else this shows nothing
    theirs = scored(policy, plain(policy, groups))
    assert_same(scored(policy, packed_logprobs(policy, batch)), theirs)
    policy.kernel = plain_kernel
    assert_same(scored(policy, packed_logprobs(policy, batch)), theirs)


@pytest.mark.parametrize("family_policy", ["qwen2_5_vl", "llava_next"], indirect=True)
def test_with_an_adapter_and_checkpointing(family_policy, asked):
    policy = load_policy(ModelConfig(path=family_policy.source, lora=LoraConfig(rank=4), gradient_checkpointing=True))
    with torch.no_grad():  # B starts at zero: without this the adapter would not be tested
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    groups = ragged(asked)
    ours = scored(policy, packed_logprobs(policy, pack(groups, policy.family)))
    assert all("lora_" in name for name in ours[1])
    assert_same(ours, scored(policy, plain(policy, groups)))


@exact
def test_greedy_is_generate(family_policy, asked):
    policy = family_policy
    greedy = SAMPLING.model_copy(update={"temperature": 0.0, "group_size": 1})
    for group in rollout(policy, asked, greedy, seed=0):
        ids = group.prompt.input_ids_P[None]
        with torch.no_grad():
            out = policy.core.eval().generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=greedy.max_new_tokens,
                suppress_tokens=policy.suppressed_ids,
                pad_token_id=policy.pad_id,
                **group.prompt.pixel_inputs,
                **image_marks(policy.family, policy.core, ids),
            )
        assert group.completions[0].tokens_T.tolist() == out[0, group.prompt.length :].tolist()


@exact
def test_sampled_logprobs_are_those_of_training(family_policy, asked):
    groups = rollout(family_policy, asked, SAMPLING, seed=5)
    batch = pack(groups, family_policy.family)
    assert (packed_logprobs(family_policy, batch) - batch.sampled_logprobs_S).abs().max() <= 1e-5
    assert (plain(family_policy, groups) - batch.sampled_logprobs_S).abs().max() <= 2e-5


def test_an_image_is_prefilled_once(policy, picture):
    """Whatever else stands in the batch: the row holds the shared tokens once, and one group's are its own."""
    prompts = ask(policy, [picture(0)])
    packed = pack_prompts(prompts, policy.family)
    common = find_trunks(prompts)[0].length
    assert common >= prompts[0].image_end
    assert len(packed.input_ids_L) == common + sum(prompt.length - common for prompt in prompts)
    assert (packed.input_ids_L == policy.core.config.image_token_id).sum() == (
        prompts[0].input_ids_P == policy.core.config.image_token_id
    ).sum()
    assert packed.images.entries == (0,)
    assert packed.layout.rests.trunks == 1


def test_what_shares_and_what_does_not(policy, picture):
    three = mixed(policy, picture)
    assert [trunk.members for trunk in find_trunks(three)] == [(0, 3, 6), (1, 5), (2,), (4,)]
    assert find_trunks(three)[1].length == three[1].length - 1  # the same words: each still has an end of its own
    assert find_trunks(three)[3].length == three[4].length
    first, second = ask(policy, [picture(0)])[:2]
    copied = replace(second, pixel_inputs={name: value.clone() for name, value in second.pixel_inputs.items()})
    unknown = replace(second, image_end=0)
    before = replace(second, input_ids_P=second.input_ids_P.roll(1))  # other words before the image
    moved = replace(second, positions_AP=second.positions_AP + 1)
    assert [len(find_trunks([first, each])) for each in (second, copied, unknown, before, moved)] == [1, 2, 2, 2, 2]
    text = [policy.processor.encode(words) for words in ("how many red", "how many blue")]
    assert len(find_trunks(text)) == 2


def test_where_nothing_is_shared_the_row_is_that_of_two_levels(policy, groups):
    layout = pack(groups, policy.family).layout
    assert layout.rests is None
    assert layout.pad_index_M.numel() == len(groups) * layout.P + len(groups) * layout.G * layout.T


def test_a_wrong_share_shows(policy, picture):
    """Rests that do not see their own last token, and copies of keys whose gradients are lost."""
    groups = ragged(ask(policy, [picture(0)]))
    batch = pack(groups, policy.family)
    right = scored(policy, packed_logprobs(policy, batch))
    rests = batch.layout.rests
    blind = replace(batch.layout, rests=replace(rests, common_N=rests.common_N - 1), _rest_masks={})
    assert (packed_logprobs(policy, replace(batch, layout=blind)) - right[0]).abs().max() > 1e-3
    lost = replace(batch, layout=replace(batch.layout, rests=replace(rests, copies=rests.copies[:1])))
    values, gradients = scored(policy, packed_logprobs(policy, lost))
    assert torch.equal(values, right[0])
    worst = max((gradients[name] - each).norm() / each.norm() for name, each in right[1].items())
    assert worst > 1e-2


def test_one_image_stays_in_one_micro_batch(policy, picture):
    prompts = mixed(policy, picture)
    groups = ragged(prompts)
    assert together("abacb") == [0, 2, 1, 4, 3]
    groups = [groups[place] for place in together([id(p.pixel_inputs.get("pixel_values")) for p in prompts])]
    whole = row_tokens(groups)
    assert whole < sum(map(group_tokens, groups))
    assert split_groups(groups, whole) == [groups]
    images = [row_tokens(groups[:3]), row_tokens(groups[3:5])]
    parts = split_groups(groups, max(images))
    assert [len(part) for part in parts][:2] == [3, 2 if images[1] + row_tokens(groups[5:6]) > max(images) else 3]
    assert all(row_tokens(part) <= max(images) for part in parts)
    # An image whose questions do not fit together is cut, and each part shares what it can.
    parts = split_groups(groups[:3], row_tokens(groups[:2]))
    assert [len(part) for part in parts] == [2, 1]
    assert [group for part in split_groups(groups, 1) for group in part] == groups


def test_prompts_of_one_image_decode_together(fresh, picture):
    """In parts of three prompts: every image stands in one part; each prompt gets what it got in one batch."""
    policy = fresh()
    prompts, image = mixed(policy, picture), policy.core.config.image_token_id
    whole = rollout(policy, prompts, SAMPLING, seed=2)
    shown = []
    policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: shown.append(int((kwargs["input_ids"] == image).sum())), with_kwargs=True
    )
    parts = rollout(policy, prompts, SAMPLING.model_copy(update={"rows_at_once": 9}), seed=2)
    assert shown == [int((prompts[n].input_ids_P == image).sum()) for n in (0, 1, 4)]
    assert all(group.prompt is prompt for group, prompt in zip(parts, prompts, strict=True))
    for ours, theirs in zip(parts, whole, strict=True):
        assert [c.tokens_T.tolist() for c in ours.completions] == [c.tokens_T.tolist() for c in theirs.completions]


def test_the_check_at_the_start_of_a_run_covers_it(policy, picture, monkeypatch):
    group = rollout(policy, ask(policy, [picture(0)])[:1], SAMPLING, seed=0)[0]
    assert check_packed(policy, group) < 1e-5
    right = Row._find_rests

    def wrong(row, *sizes):
        rests = right(row, *sizes)
        return replace(rests, common_N=rests.common_N + 1)

    monkeypatch.setattr(Row, "_find_rests", wrong)
    with pytest.raises(TrainingError, match=r"two questions about one image differs .* set model\.packed to false"):
        check_packed(policy, group)
