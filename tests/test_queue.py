"""Embeddings of past steps as negatives: what is remembered, how it counts, that it survives a checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch, QueuedRows
from hf_contrastive.losses import CLIP, total
from hf_contrastive.queue import MemoryQueue
from hf_contrastive.testing import batch_of, random_output


def filled(size: int, seeds: tuple[int, ...], present: dict[str, Tensor] | None = None) -> MemoryQueue:
    queue = MemoryQueue(size)
    for seed in seeds:
        batch = batch_of(random_output(seed=seed), present)
        queue.push(replace(batch, ids=torch.arange(8) + 100 * seed))
    return queue


def clip_with_extra_keys(batch: ContrastiveBatch, queue: dict[str, QueuedRows]) -> Tensor:
    """CLIP written out, the queued rows as further columns."""
    loss = torch.zeros((), dtype=torch.float64)
    for query, key in (("image", "text"), ("text", "image")):
        keys = torch.cat([batch.world[key], queue[key].embeds])
        logits = batch.logit_scale * batch.world[query] @ keys.T
        loss = loss + torch.nn.functional.cross_entropy(logits, torch.arange(8)) / 2
    return loss


def test_remembers_the_latest_rows_in_their_order():
    queue = filled(12, (1, 2))
    expected = torch.cat([random_output(seed=1).embeds["text"][4:], random_output(seed=2).embeds["text"]])
    rows = queue.rows()["text"]
    torch.testing.assert_close(rows.embeds, expected.detach(), rtol=0, atol=0)
    assert rows.ids is not None
    assert rows.ids.tolist() == [104, 105, 106, 107, *range(200, 208)]
    assert not rows.embeds.requires_grad
    assert len(queue) == 12


def test_remembers_only_rows_that_have_the_modality():
    present = {"image": torch.ones(8, dtype=torch.bool), "text": torch.arange(8) > 2}
    rows = filled(100, (1,), present).rows()
    assert {m: len(x.embeds) for m, x in rows.items()} == {"image": 8, "text": 5}


def test_queued_rows_are_further_negatives_in_value_and_gradient():
    queue = filled(20, (1, 2, 3)).rows()
    one, other = random_output(), random_output()
    actual = total(CLIP()(replace(batch_of(one), queue=queue)))
    expected = clip_with_extra_keys(batch_of(other), queue)
    assert actual.item() == pytest.approx(expected.item(), abs=1e-12)
    actual.backward()
    expected.backward()
    for x, y in [*zip(one.embeds.values(), other.embeds.values(), strict=True), (one.logit_scale, other.logit_scale)]:
        torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)


def test_a_queued_row_that_shows_the_same_is_no_negative():
    queue = filled(8, (1,)).rows()
    batch = replace(batch_of(random_output()), ids=torch.arange(100, 108))
    rows, _ = replace(batch, queue=queue).log_partitions("image", "text")
    own, _ = batch.log_partitions("image", "text")
    logits = batch.logit_scale * batch.world["image"] @ queue["text"].embeds.T
    logits = logits.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    torch.testing.assert_close(rows, torch.logaddexp(own, logits.logsumexp(1)), rtol=0, atol=1e-12)


def test_an_empty_queue_changes_nothing():
    batch = batch_of(random_output())
    assert total(CLIP()(replace(batch, queue=MemoryQueue(5).rows()))).item() == total(CLIP()(batch)).item()


def test_comes_back_from_a_file_as_it_was(tmp_path: Path):
    queue, other = filled(12, (1, 2)), MemoryQueue(12)
    queue.save(tmp_path / "queue.safetensors")
    other.load(tmp_path / "queue.safetensors")
    assert other.rows().keys() == queue.rows().keys()
    for m, rows in queue.rows().items():
        torch.testing.assert_close(other.rows()[m], rows, rtol=0, atol=0)


def test_a_queue_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"^`size` of a queue must be at least 1 row, but got 0\.$"):
        MemoryQueue(0)


def test_a_smaller_queue_takes_the_latest_rows_of_a_file(tmp_path: Path):
    filled(16, (1, 2)).save(tmp_path / "queue.safetensors")
    small = MemoryQueue(5)
    small.load(tmp_path / "queue.safetensors")
    torch.testing.assert_close(small.rows()["text"].embeds, random_output(seed=2).embeds["text"][3:].detach())


def test_rows_without_ids_are_forgotten_once_ids_come():
    queue = MemoryQueue(100)
    queue.push(batch_of(random_output(seed=1)))
    queue.push(replace(batch_of(random_output(seed=2)), ids=torch.arange(8)))
    rows = queue.rows()["image"]
    torch.testing.assert_close(rows.embeds, random_output(seed=2).embeds["image"].detach())
    assert rows.ids is not None
    assert len(rows.ids) == 8
