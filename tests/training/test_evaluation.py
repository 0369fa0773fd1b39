"""How the trainer evaluates: every row once and in order, on one process and on several, sized data and streams."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import CLIPModel, EarlyStoppingCallback, set_seed

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, ContrastiveTrainingArguments, PairDataset
from hf_contrastive.distributed import rank
from hf_contrastive.evaluators import Encoder, LinearProbe, ModelEncoder, NearestNeighbors, TextSimilarity, ZeroShot
from hf_contrastive.functional import retrieval_ranks
from hf_contrastive.losses import CLIP, total
from hf_contrastive.models import load_dual_encoder
from hf_contrastive.testing import batch_of, run_distributed
from tests.conftest import COLORS, make_dataset, make_inputs, make_pairs, tiny_clip


class Stream(IterableDataset[dict[str, Tensor]]):
    """Rows of a dataset one after the other, without a length."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self.dataset)


class SizedStream(Stream):
    def __len__(self) -> int:
        return len(self.dataset)


KINDS = {
    "sized": lambda dataset: dataset,
    "list": list,
    "torch stream": Stream,
    "stream with a length": SizedStream,
    "datasets stream": lambda dataset: dataset.to_iterable_dataset(num_shards=3),
}


def make_trainer(model: Any, folder: Path | str, **options: Any) -> ContrastiveTrainer:
    own = {
        "train_dataset",
        "eval_dataset",
        "evaluators",
        "data_collator",
        "processing_class",
        "compute_metrics",
        "callbacks",
    }
    given = {name: options.pop(name) for name in own & options.keys()}
    defaults = {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "loss": "clip",
        "report_to": "none",
        "save_strategy": "no",
    }
    args = ContrastiveTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **(defaults | options))
    return ContrastiveTrainer(model, args, **({"train_dataset": make_dataset(8)} | given))


@torch.no_grad()
def embed(model: CLIPModel, num_rows: int) -> dict[str, Tensor]:
    output = model.eval()(**make_inputs(num_rows))
    return {"image": F.normalize(output.image_embeds, dim=1), "text": F.normalize(output.text_embeds, dim=1)}


# ---- Rows ----


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_embedded_once_and_in_order(clip: CLIPModel, tmp_path: Path, kind: str):
    trainer = make_trainer(clip, tmp_path)
    found = trainer.predict(KINDS[kind](make_dataset(13)))
    assert trainer.modalities == ["image", "text"]
    for x, expected in zip(found.predictions, embed(clip, 13).values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(x), expected, rtol=0, atol=1e-6)


def test_a_loader_in_another_order_and_with_repeats_changes_nothing(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, tmp_path)
    trainer._get_eval_sampler = lambda *_: [7, 3, 3, 0, 1, 2, 6, 5, 4, 7]
    found = trainer.predict(make_dataset(8)).predictions[0]
    torch.testing.assert_close(torch.from_numpy(found), embed(clip, 8)["image"], rtol=0, atol=1e-6)


def test_a_row_that_the_sampler_leaves_out_is_named(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, tmp_path)
    trainer._get_eval_sampler = lambda *_: [7, 3, 0, 1, 6, 5, 4]
    with pytest.raises(ValueError, match="1 rows were never embedded; the first is row 2"):
        trainer.predict(make_dataset(8))


def test_a_loader_of_the_users_own_is_read_in_its_order(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, tmp_path, eval_dataset=make_dataset(6))
    trainer.get_test_dataloader = lambda dataset: DataLoader(dataset, batch_size=4)
    found = trainer.predict(make_dataset(6)).predictions[1]
    torch.testing.assert_close(torch.from_numpy(found), embed(clip, 6)["text"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"dataloader_drop_last": True}, {"remove_unused_columns": True}], ids=str)
def test_no_option_loses_rows(clip: CLIPModel, tmp_path: Path, options: dict[str, Any]):
    trainer = make_trainer(clip, tmp_path, **options)
    dataset = (
        make_dataset(13).add_column("note", ["x"] * 13) if "remove_unused_columns" in options else make_dataset(13)
    )
    assert len(trainer.predict(dataset).predictions[0]) == 13


@pytest.mark.parametrize("kind", ["sized", "datasets stream"])
def test_workers_keep_the_order(clip: CLIPModel, tmp_path: Path, kind: str):
    trainer = make_trainer(clip, tmp_path, dataloader_num_workers=2)
    found = trainer.predict(KINDS[kind](make_dataset(13))).predictions[0]
    torch.testing.assert_close(torch.from_numpy(found), embed(clip, 13)["image"], rtol=0, atol=1e-6)


def test_an_empty_stream_is_refused(clip: CLIPModel, tmp_path: Path):
    with pytest.raises(ValueError, match="Prediction has no examples"):
        make_trainer(clip, tmp_path).predict(Stream([]))


def test_a_single_batch_can_be_embedded_by_itself(clip: CLIPModel, tmp_path: Path):
    _, found, _ = make_trainer(clip, tmp_path).prediction_step(clip.eval(), make_inputs(4), False)
    torch.testing.assert_close(found[0], embed(clip, 4)["image"], rtol=0, atol=1e-6)


def test_preprocessing_of_logits_is_refused(clip: CLIPModel, tmp_path: Path):
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="`preprocess_logits_for_metrics` has no logits"):
        ContrastiveTrainer(clip, args, preprocess_logits_for_metrics=lambda logits, labels: logits)


# ---- Ids ----


def captions_of(images: list[int]) -> Dataset:
    """Rows of different texts, several with one image, whose number is their id."""
    inputs = make_inputs(len(images))
    inputs["pixel_values"] = inputs["pixel_values"][images]
    columns = {name: value.tolist() for name, value in inputs.items()} | {"example_ids": images}
    return Dataset.from_dict(columns).with_format("torch")


def test_an_image_with_several_captions_is_one_candidate_and_one_query(clip: CLIPModel, tmp_path: Path):
    images = [0, 0, 0, 1, 2, 1, 3, 2, 4]
    trainer = make_trainer(clip, tmp_path, eval_dataset=captions_of(images))
    metrics = trainer.evaluate()
    image, text = map(torch.from_numpy, trainer.predict(captions_of(images)).predictions)
    first, ids = torch.tensor([0, 3, 4, 6, 8]), torch.tensor(images)
    assert (metrics["eval_retrieval/image_candidates"], metrics["eval_retrieval/text_candidates"]) == (5, 9)
    forth = retrieval_ranks(image[first], text, query_ids=torch.arange(5), key_ids=ids)
    back = retrieval_ranks(text, image[first], query_ids=ids, key_ids=torch.arange(5))
    assert metrics["eval_retrieval/image_to_text_recall@1"] == pytest.approx(float(forth.recall(1)))
    assert metrics["eval_retrieval/text_to_image_recall@1"] == pytest.approx(float(back.recall(1)))
    assert metrics["eval_retrieval/image_to_text_mean_rank"] == pytest.approx(float(forth.mean()))
    assert metrics["eval_retrieval/text_to_image_mrr"] == pytest.approx(metrics["eval_retrieval/text_to_image_map"])
    assert 0 < metrics["eval_retrieval/image_to_text_ndcg@10"] <= 1


def test_rows_of_one_id_are_no_negatives_of_the_evaluation_loss(clip: CLIPModel, tmp_path: Path):
    images = [0, 0, 0, 1, 2, 1, 3, 2, 4]
    trainer = make_trainer(clip, tmp_path, eval_dataset=captions_of(images))
    output = trainer.encode(clip.eval(), {n: x for n, x in captions_of(images)[:].items() if n != "example_ids"})
    batch = batch_of(output)
    object.__setattr__(batch, "ids", torch.tensor(images))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(total(CLIP()(batch)).item(), rel=1e-5)


# ---- Evaluators ----


def labelled(num_rows: int = 24) -> Dataset:
    labels = [row % len(COLORS) for row in range(num_rows)]
    return make_pairs(num_rows).add_column("label", labels).cast_column("label", ClassLabel(names=list(COLORS)))


def all_evaluators() -> list[Any]:
    scored = {"sentence1": ["a red", "a blue", "a green", "red"], "sentence2": ["red", "a red", "green", "b"]}
    return [
        ZeroShot(labelled(), COLORS, ["a {} picture", "{}"]),
        LinearProbe(labelled(), labelled(8)),
        NearestNeighbors(labelled(), labelled(8), k=3),
        TextSimilarity(Dataset.from_dict(scored | {"score": [5.0, 1.0, 4.0, 0.5]})),
    ]


NAMES = ["zeroshot/top1", "zeroshot/top5", "zeroshot/mean_per_class", "linear_probe/top1", "knn/top1", "sts/spearman"]


def with_processor(folder: Path, saved_clip: Path, **options: Any) -> ContrastiveTrainer:
    model, processor = load_dual_encoder(str(saved_clip))
    data = {"train_dataset": PairDataset(make_pairs()), "eval_dataset": PairDataset(make_pairs(8))}
    collator = ContrastiveCollator.for_model(model, processor)
    defaults = {"per_device_train_batch_size": 8, "max_steps": 2, "data_collator": collator}
    return make_trainer(model, folder, **(defaults | data | options))


def test_evaluators_report_beside_the_other_metrics(saved_clip: Path, tmp_path: Path):
    metrics = with_processor(tmp_path, saved_clip, evaluators=all_evaluators()).evaluate()
    assert {f"eval_{name}" for name in NAMES} | {"eval_loss"} <= set(metrics)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_model_is_chosen_by_any_of_them(saved_clip: Path, tmp_path: Path, name: str):
    trainer = with_processor(
        tmp_path,
        saved_clip,
        evaluators=[e for e in all_evaluators() if name.startswith(e.name)],
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1)],
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=1,
        save_steps=1,
        max_steps=6,
        learning_rate=1e-30,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{name}",
        greater_is_better=True,
    )
    trainer.train()
    found = [log[f"eval_{name}"] for log in trainer.state.log_history if f"eval_{name}" in log]
    assert trainer.state.best_metric == max(found)
    # With a learning rate of nothing the second value is no better than the first.
    assert (len(found), trainer.state.global_step) == (2, 2)


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, encode: Encoder) -> dict[str, float]:
        self.calls += 1
        return {"counting/width": float(encode("text", ["a red"]).shape[1])}


def test_evaluators_run_once_for_several_datasets(saved_clip: Path, tmp_path: Path):
    counting = Counting()
    trainer = with_processor(tmp_path, saved_clip, evaluators=[counting])
    trainer.eval_dataset = {"one": PairDataset(make_pairs(8)), "two": PairDataset(make_pairs(12))}
    metrics = trainer.evaluate()
    assert counting.calls == 1
    assert metrics["eval_counting/width"] == 8
    assert {"eval_one_loss", "eval_two_loss"} <= set(metrics)
    assert not {name for name in metrics if "counting" in name} - {"eval_counting/width"}
    trainer.evaluate(PairDataset(make_pairs(8)), metric_key_prefix="test")
    assert counting.calls == 2
    trainer.predict(PairDataset(make_pairs(8)))
    assert counting.calls == 2


def test_evaluators_leave_training_as_it_would_be(saved_clip: Path, tmp_path: Path):
    losses = []
    for evaluators in ([], all_evaluators()):
        trainer = with_processor(
            tmp_path,
            saved_clip,
            evaluators=evaluators,
            eval_strategy="steps",
            eval_steps=1,
            logging_steps=1,
            max_steps=3,
        )
        trainer.train()
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert losses[0] == losses[1]


def test_random_numbers_of_training_are_the_same_with_evaluation_and_without(tmp_path: Path):
    losses = []
    for evaluated in (False, True):
        set_seed(0)
        options = {"eval_strategy": "steps", "eval_steps": 1} if evaluated else {}
        trainer = make_trainer(
            tiny_clip(dropout=0.5), tmp_path, eval_dataset=make_dataset(6), max_steps=3, logging_steps=1, **options
        )
        if evaluated:
            trainer.predict(make_dataset(5))
        trainer.train()
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert losses[0] == losses[1]


def test_two_evaluators_of_one_name_are_refused(clip: CLIPModel, tmp_path: Path):
    with pytest.raises(ValueError, match="Two of the `evaluators` are called 'counting'"):
        make_trainer(clip, tmp_path, evaluators=[Counting(), Counting()])


def test_evaluators_need_a_processor(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, tmp_path, eval_dataset=make_dataset(8), evaluators=[Counting()])
    with pytest.raises(ValueError, match=r"need a processor\. Pass it to the trainer as `processing_class`"):
        trainer.evaluate()


# ---- Two processes ----


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    timed = ("runtime", "per_second", "preparation_time")
    return {name: value for name, value in metrics.items() if not name.endswith(timed)}


class Damaged(list[dict[str, Tensor]]):
    def __init__(self) -> None:
        super().__init__(make_dataset(13))

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        if row == 5:
            raise ValueError("Row 5 is damaged.")
        return super().__getitem__(row)


def evaluate_all_kinds(folder: str, saved_clip: Path) -> dict[str, Any]:
    set_seed(0)
    found: dict[str, Any] = {}
    trainer = make_trainer(tiny_clip(), folder)
    for kind, rows in (("sized", 13), ("sized", 3), ("torch stream", 13), ("datasets stream", 3)):
        predictions = trainer.predict(KINDS[kind](make_dataset(rows))).predictions
        found[f"{kind} {rows}"] = [torch.from_numpy(x) for x in predictions]
    ids = captions_of([0, 0, 0, 1, 2, 1, 3, 2, 4])
    found["with ids"] = numbers(trainer.evaluate(ids))
    found["evaluators"] = numbers(with_processor(Path(folder), saved_clip, evaluators=all_evaluators()).evaluate())
    return found


def check_that_work_is_shared(folder: Path, saved_clip: Path) -> None:
    encode = with_processor(folder, saved_clip).evaluation_encoder()
    embed_batch, sizes = encode._embed, []
    encode._embed = lambda modality, values: (sizes.append(len(values)), embed_batch(modality, values))[1]
    texts = [f"{color} {i}" for i in range(3) for color in COLORS]
    found = encode("text", texts[:21])
    # Six batches of four, the last of one text.
    assert sizes == ([4, 4, 4] if rank() == 0 else [4, 4, 1])
    alone = ModelEncoder(encode.model, encode.processor, batch_size=4)("text", texts[:21])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-6)


def check_two_processes(expected: dict[str, Any], folder: str, saved_clip: Path) -> None:
    assert dist.get_world_size() == 2
    found = evaluate_all_kinds(folder, saved_clip)
    for name, value in expected.items():
        if isinstance(value, dict):
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        else:
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    check_that_work_is_shared(Path(folder), saved_clip)
    # Row 5 belongs to the second batch, which is rank 1's.
    kind, message = (RuntimeError, "Process 1 failed. ValueError: Row 5") if rank() == 0 else (ValueError, "^Row 5 is")
    with pytest.raises(kind, match=message):
        make_trainer(tiny_clip(), folder).predict(Damaged())
    dist.barrier()


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_processes_find_what_one_finds_and_fail_together(saved_clip: Path, tmp_path: Path):
    expected = evaluate_all_kinds(str(tmp_path), saved_clip)
    run_distributed(check_two_processes, expected, str(tmp_path), saved_clip)
