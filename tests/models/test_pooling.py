"""From tokens to one vector, against loops."""

import pytest
import torch
from torch import Tensor, nn

from hf_contrastive.models.heads import AttentionPooling, make_head
from hf_contrastive.models.pooling import own_vector, pool, token_mask, tokens_of


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_padding_is_left_out_on_both_sides(tokens: Tensor, pooling: str, dtype: torch.dtype):
    expected = []
    for row, mask in zip(tokens, MASK, strict=True):
        kept = [x for x, keep in zip(row, mask, strict=True) if keep]
        expected.append({"cls": kept[0], "last": kept[-1], "mean": sum(kept) / len(kept)}[pooling])
    found = pool(pooling, {"last_hidden_state": tokens}, MASK.to(dtype))
    torch.testing.assert_close(found, torch.stack(expected))


def test_without_a_mask_all_tokens_count(tokens: Tensor):
    output = {"last_hidden_state": tokens}
    assert torch.equal(pool("cls", output), tokens[:, 0])
    assert torch.equal(pool("last", output), tokens[:, -1])
    assert torch.equal(pool("mean", output), tokens.mean(1))


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
def test_rows_of_padding_alone_are_numbers(tokens: Tensor, pooling: str):
    mask = MASK * torch.tensor([[1], [0], [1], [1]])
    tokens.requires_grad_(True)
    found = pool(pooling, {"last_hidden_state": tokens}, mask)
    found.sum().backward()
    assert found.isfinite().all()
    assert tokens.grad.isfinite().all()
    others = [0, 2, 3]
    assert torch.equal(found[others], pool(pooling, {"last_hidden_state": tokens}, MASK)[others])


def test_rows_of_padding_alone_attend_to_nothing(tokens: Tensor):
    pooling = AttentionPooling(6)
    nn.init.normal_(pooling.query)
    found = pooling(tokens, MASK * torch.tensor([[1], [0], [1], [1]]))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(p.grad.isfinite().all() for p in pooling.parameters())


@pytest.mark.parametrize("masked", [False, True])
def test_means_of_many_tokens_in_half_precision_are_those_of_single(masked: bool):
    tokens = (torch.randn(2, 3000, 4, generator=torch.Generator().manual_seed(0)) + 40).to(torch.bfloat16)
    mask = torch.ones(2, 3000, dtype=torch.long) if masked else None
    found = pool("mean", {"last_hidden_state": tokens}, mask)
    assert found.dtype == torch.float32
    # Sums of 3000 numbers in single precision; bfloat16 would be off by 0.1 and more.
    torch.testing.assert_close(found, tokens.double().mean(1).float(), rtol=0, atol=1e-4)


def test_a_map_is_pooled_over_its_places():
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(pool("mean", {"last_hidden_state": x}), x.mean((2, 3)))
    assert tokens_of({"last_hidden_state": x}).shape == (2, 12, 5)
    assert tokens_of({"last_hidden_state": x[:, :, 0, 0]}) is None


def test_the_own_vector_is_the_projected_one_if_there_is_one():
    pooled, projected = torch.randn(2, 5, 1, 1), torch.randn(2, 3)
    assert own_vector({"pooler_output": pooled, "image_embeds": projected}) is projected
    assert own_vector({"pooler_output": pooled}).shape == (2, 5)
    assert own_vector({"pooler_output": None, "last_hidden_state": pooled}) is None


def test_masks_of_more_inputs_than_tokens_are_thinned():
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert token_mask(nn.Identity(), 3, mask).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert token_mask(nn.Identity(), 6, mask) is mask
    with pytest.raises(ValueError, match="The `attention_mask` of Identity has 6 entries, but it returned 4 tokens"):
        token_mask(nn.Identity(), 4, mask)


@pytest.mark.parametrize("features", [6, 128])
def test_attention_is_that_of_torch(features: int):
    torch.manual_seed(0)
    pooling = AttentionPooling(features)
    nn.init.normal_(pooling.query)
    tokens = torch.randn(4, 4, features)
    x = pooling.norm(tokens)
    expected, _ = nn.functional.multi_head_attention_forward(
        pooling.query.expand(1, 4, -1), x.transpose(0, 1), x.transpose(0, 1), features, pooling.num_heads, None,
        torch.cat([torch.zeros(2 * features), pooling.value.bias]), None, None, False, 0.0, torch.eye(features), torch.zeros(features),
        use_separate_proj_weight=True, q_proj_weight=torch.eye(features), k_proj_weight=pooling.key.weight,
        v_proj_weight=pooling.value.weight, key_padding_mask=MASK == 0,
    )  # fmt: skip
    torch.testing.assert_close(pooling(tokens, MASK), expected[0])
    assert pooling.num_heads == (2 if features == 128 else 1)


def test_a_head_of_nothing_is_none():
    assert make_head("none", 4, 4, attention=False) is None
    assert make_head("none", 4, 4, attention=True)(torch.randn(2, 3, 4)).shape == (2, 4)
    with pytest.raises(ValueError, match="must be as wide as the joint space, 5, but it is 4 wide"):
        make_head("none", 4, 5, attention=False)
