import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hf_contrastive.distributed import rank
from hf_contrastive.evaluators import store as embedding_store
from hf_contrastive.evaluators.store import EmbeddingStore, on_every_process
from hf_contrastive.testing import run_distributed


X = torch.arange(26.0).view(13, 2)


def embeds(rows: Tensor) -> dict[str, Tensor]:
    return {"text": -X[rows], "image": X[rows]}


@pytest.mark.parametrize("num_rows", [13, None], ids=["sized", "stream"])
def test_rows_come_back_in_order_once(num_rows: int | None):
    store = EmbeddingStore(num_rows)
    for rows in ([3, 9, 1], [0, 2, 12, 11], [4, 5, 6, 7, 8, 10], [0, 1]):
        store.add(torch.tensor(rows), embeds(torch.tensor(rows)), torch.tensor(rows) * 7)
    stored = store.join()
    assert list(stored.embeds) == ["image", "text"]
    assert stored.embeds["image"].equal(X)
    assert stored.embeds["text"].equal(-X)
    assert stored.ids.equal(torch.arange(13) * 7)


def test_batches_without_numbers_follow_each_other():
    store = EmbeddingStore()
    store.add(None, {"x": X[:5]})
    store.add(None, {"x": X[5:]})
    stored = store.join()
    assert stored.embeds["x"].equal(X)
    assert stored.ids is None


def test_a_sized_buffer_is_never_copied():
    store = EmbeddingStore(13)
    store.add(torch.arange(4), {"x": X[:4]})
    place = store._buffers["x"].data_ptr()
    store.add(torch.arange(4, 13), {"x": X[4:]})
    assert store.join().embeds["x"].data_ptr() == place


def test_a_stream_doubles_its_buffer_when_full():
    store, sizes = EmbeddingStore(), []
    for row in range(9):
        store.add(torch.tensor([row]), {"x": X[row : row + 1]})
        sizes.append(len(store._buffers["x"]))
    assert sizes == [1, 2, 4, 4, 8, 8, 8, 8, 16]


def test_nothing_stored_is_none():
    assert EmbeddingStore().join() is None


def test_a_row_that_is_missing_is_named():
    store = EmbeddingStore(13)
    store.add(torch.tensor([0, 1, 3]), {"x": X[:3]})
    with pytest.raises(ValueError, match=r"10 rows were never embedded; the first is row 2\."):
        store.join()


def test_batches_must_bring_the_same():
    store = EmbeddingStore(13)
    store.add(torch.arange(2), {"x": X[:2]})
    with pytest.raises(ValueError, match=r"one brings \['x', 'ids'\] after \['x'\]"):
        store.add(torch.arange(2), {"x": X[:2]}, torch.arange(2))


def check_sharing() -> None:
    embedding_store.CHUNK = 4
    for num_rows in (13, None):
        store = EmbeddingStore(num_rows)
        # Rank 1 repeats rows of rank 0 with other values: those of the first process count.
        rows = torch.tensor([[0, 3, 4, 9, 10, 1, 2], [5, 6, 7, 8, 11, 12, 0]][rank()])
        store.add(rows, {"x": X[rows] + (rows == 0).unsqueeze(1) * rank()}, rows * 7)
        stored = store.join()
        assert stored.embeds["x"].equal(X)
        assert stored.ids.equal(torch.arange(13) * 7)
    store = EmbeddingStore()
    if rank() == 1:
        store.add(torch.arange(3), {"x": X[:3]})
    assert store.join().embeds["x"].equal(X[:3])
    assert EmbeddingStore().join() is None
    with pytest.raises(ValueError, match="carry no row numbers"):
        EmbeddingStore().add(None, {"x": X})
    alone = EmbeddingStore(many_processes=False)
    alone.add(None, {"x": X[: rank() + 1]})
    assert len(alone.join().embeds["x"]) == rank() + 1
    check_failures()
    dist.barrier()


def check_failures() -> None:
    def work() -> int:
        if rank() == 1:
            raise KeyError("a bad row")
        return 5

    kind, message = (
        (KeyError, "a bad row") if rank() == 1 else (RuntimeError, "Process 1 failed. KeyError: 'a bad row'")
    )
    with pytest.raises(kind, match=message):
        on_every_process(work)
    assert on_every_process(rank) == rank()


@pytest.mark.distributed
@pytest.mark.timeout(60)
def test_two_processes_fill_in_each_others_rows_and_share_failures():
    run_distributed(check_sharing)
