"""What the trainer adds to the Trainer, on tiny models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import BertConfig, BertModel, CLIPModel, EvalPrediction, PreTrainedModel, set_seed

from hf_contrastive import ContrastiveBatch, ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.functional import alignment, uniformity
from hf_contrastive.losses import CLIP, InfoNCE, total
from hf_contrastive.testing import batch_of
from tests.conftest import LAYERS, TEXT, make_dataset, make_inputs, tiny_siglip


def make_trainer(model: PreTrainedModel, dataset: Any, folder: Path, **kwargs: Any) -> ContrastiveTrainer:
    defaults: dict[str, Any] = {"per_device_train_batch_size": 8, "max_steps": 2, "logging_steps": 1}
    defaults |= {"learning_rate": 1e-2, "loss": "clip", "report_to": "none", "save_strategy": "no"}
    trainer = {name: kwargs.pop(name) for name in ("compute_metrics", "eval_dataset", "loss_object") if name in kwargs}
    args = ContrastiveTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **(defaults | kwargs))
    loss = trainer.pop("loss_object", None)
    return ContrastiveTrainer(model, args, loss=loss, train_dataset=dataset, **({"eval_dataset": dataset} | trainer))


@pytest.mark.parametrize("loss", ["clip", "clip_divergence", "uni_align"])
def test_trains_every_parameter_that_the_loss_uses(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path, loss: str
):
    before = {name: p.clone() for name, p in model.named_parameters()}
    make_trainer(model, dataset, tmp_path, loss=loss).train()
    unused = {"logit_bias"} | ({"logit_scale"} if loss == "uni_align" else set())
    for name, p in model.named_parameters():
        # Softmax and attention ignore a constant added to all keys.
        if name not in unused and not name.endswith(("k_proj.bias", "key.bias")):
            assert not torch.equal(p, before[name]), f"{name} has not changed."


def test_siglip_trains_its_bias(dataset: Dataset, tmp_path: Path):
    set_seed(0)
    model = tiny_siglip()
    make_trainer(model, dataset, tmp_path, loss="siglip").train()
    assert model.logit_bias.item() != 0


def test_logs_loss_terms_temperature_geometry_and_retrieval(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, loss="align_uniform")
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(log["loss/alignment"] + log["loss/uniformity"], rel=1e-6)
    assert log["loss/alignment"] == pytest.approx(log["geometry/alignment_image_text"], rel=1e-5)
    assert {"logit_scale", "geometry/modality_gap_image_text", "retrieval/image_to_text_recall@1"} <= set(log)


def test_logs_no_geometry_when_told_not_to(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, log_geometry=False)
    trainer.train()
    assert not [name for name in trainer.state.log_history[0] if name.startswith("geometry/")]


def test_losses_see_how_much_of_training_is_done(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    seen = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append(batch.progress)
        return CLIP()(batch)

    trainer = make_trainer(clip, dataset, tmp_path, loss_object=loss, max_steps=4, gradient_accumulation_steps=2)
    trainer.train()
    assert seen == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    trainer.evaluate()
    assert set(seen[8:]) == {1.0}


def test_accumulated_gradients_are_the_mean_of_their_batches(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    weights = clip.state_dict()
    expected = []
    for rows in (slice(0, 8), slice(8, 16)):
        output = ContrastiveTrainer.encode(
            make_trainer(clip, dataset, tmp_path), clip, {n: x[rows] for n, x in make_inputs(16).items()}
        )
        clip.zero_grad()
        total(InfoNCE()(batch_of(output))).backward()
        expected.append(clip.visual_projection.weight.grad.clone())

    clip.load_state_dict(weights)
    optim = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "weight_decay": 0.0, "max_steps": 1}
    trainer = make_trainer(
        clip, dataset, tmp_path, gradient_accumulation_steps=2, lr_scheduler_type="constant", **optim
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(dataset)
    before = clip.visual_projection.weight.detach().clone()
    clip.eval()
    trainer.train()
    step = before - clip.visual_projection.weight.detach()
    torch.testing.assert_close(step, (expected[0] + expected[1]) / 2, rtol=1e-4, atol=1e-6)


def test_drops_the_last_training_batch_and_keeps_the_last_of_evaluation(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, make_dataset(13), tmp_path, per_device_eval_batch_size=4)
    assert [len(batch["input_ids"]) for batch in trainer.get_train_dataloader()] == [8]
    assert [len(x) for x in trainer.predict(make_dataset(13)).predictions] == [13, 13]
    assert trainer.args.dataloader_drop_last is False


# ---- Temperature ----


def test_temperature_is_not_decayed(model: PreTrainedModel, dataset: Dataset, tmp_path: Path):
    names = make_trainer(model, dataset, tmp_path).get_decay_parameter_names(model)
    assert names
    assert not [name for name in names if "logit" in name]


def test_temperature_stays_below_its_bound(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    clip.logit_scale.data.fill_(5.0)
    trainer = make_trainer(clip, dataset, tmp_path, max_logit_scale=20.0, learning_rate=0.5)
    trainer.train()
    assert clip.logit_scale.exp().item() <= 20.0 * (1 + 1e-6)
    assert all(log["logit_scale"] <= 20.0 * (1 + 1e-6) for log in trainer.state.log_history if "logit_scale" in log)


def test_temperature_can_start_elsewhere_and_stay_there(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, logit_scale=50.0, learn_logit_scale=False)
    trainer.train()
    assert clip.logit_scale.exp().item() == pytest.approx(50.0, rel=1e-6)


def test_temperature_has_a_learning_rate_of_its_own(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, logit_scale_learning_rate=0.125)
    trainer.create_optimizer()
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert rates.pop(id(clip.logit_scale)) == 0.125
    assert set(rates.values()) == {1e-2}
    assert len(rates) == len(list(clip.parameters())) - 1


def test_temperature_is_saved_and_resumed(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    keep = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "logit_scale": 30.0}
    make_trainer(clip, dataset, tmp_path, **keep).train()
    learned = clip.logit_scale.item()

    again = CLIPModel.from_pretrained(tmp_path / "checkpoint-1")
    assert again.logit_scale.item() != learned
    make_trainer(again, dataset, tmp_path, **keep).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.logit_scale.item() == learned


# ---- Evaluation ----


def test_evaluation_loss_does_not_depend_on_the_batch_size(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    losses = [
        make_trainer(clip, dataset, tmp_path, per_device_eval_batch_size=size).evaluate()["eval_loss"]
        for size in (1, 4, 5, 16)
    ]
    assert losses == pytest.approx([losses[-1]] * 4, rel=1e-6)


def test_evaluation_loss_is_the_mean_over_pools_of_the_asked_size(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    clip.eval()
    halves = []
    for rows in (slice(0, 8), slice(8, 16)):
        output = make_trainer(clip, dataset, tmp_path).encode(clip, {n: x[rows] for n, x in make_inputs(16).items()})
        halves.append(total(InfoNCE()(batch_of(output))).item())
    loss = make_trainer(clip, dataset, tmp_path, eval_pool_size=8).evaluate()["eval_loss"]
    assert loss == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_evaluation_reports_geometry_of_the_embeddings(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path)
    image, text = map(torch.from_numpy, trainer.predict(dataset).predictions)
    metrics = trainer.evaluate()
    assert metrics["eval_geometry/alignment_image_text"] == pytest.approx(alignment(image, text).item(), rel=1e-6)
    assert metrics["eval_geometry/uniformity_text"] == pytest.approx(uniformity(text).item(), rel=1e-6)
    assert 0 <= metrics["eval_retrieval/text_to_image_recall@5"] <= 1


def test_compute_metrics_gets_embeddings_by_modality_and_row_numbers(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    seen: dict[str, Any] = {}

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        seen.update(shapes={m: x.shape for m, x in prediction.predictions.items()}, rows=list(prediction.label_ids))
        return {"mine": 1.0}

    metrics = make_trainer(clip, dataset, tmp_path, compute_metrics=compute_metrics).evaluate()
    assert metrics["eval_mine"] == 1.0
    assert seen == {"shapes": {"image": (16, 12), "text": (16, 12)}, "rows": list(range(16))}


def test_best_model_can_be_chosen_by_retrieval(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    best = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    name = "eval_retrieval/image_to_text_recall@1"
    trainer = make_trainer(
        clip,
        dataset,
        tmp_path,
        **best,
        load_best_model_at_end=True,
        metric_for_best_model=name,
        greater_is_better=True,
    )
    trainer.train()
    found = [log[name] for log in trainer.state.log_history if name in log]
    assert trainer.state.best_metric == max(found)


# ---- Errors ----


def test_a_nan_in_an_embedding_is_named(clip: CLIPModel, tmp_path: Path):
    rows = make_inputs(8)
    rows["pixel_values"][3] = torch.nan
    dataset = Dataset.from_dict({name: value.tolist() for name, value in rows.items()}).with_format("torch")
    trainer = make_trainer(clip, dataset, tmp_path)
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(dataset)
    with pytest.raises(ValueError, match="`image_embeds` holds rows that are not finite: row 3 is the first of 1"):
        trainer.train()


def test_a_model_without_temperature_is_refused(dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="BertModel has no `logit_scale`"):
        make_trainer(BertModel(BertConfig(**LAYERS, **TEXT)), dataset, tmp_path)


def test_a_model_that_returns_one_modality_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, modalities=["text"])
    with pytest.raises(ValueError, match="needs two or more modalities, but CLIPModel returned"):
        trainer.train()


def test_a_modality_that_the_model_does_not_return_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, modalities=["text", "audio"])
    with pytest.raises(ValueError, match=r"asks for \['audio'\], but CLIPModel returned \['image', 'text'\]"):
        trainer.train()


def test_an_unknown_loss_is_answered_with_the_known_ones(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no loss called 'infonce'. Known losses: align_uniform, barlow_twins, "):
        make_trainer(clip, dataset, tmp_path, loss="infonce")


def test_too_little_data_for_one_batch_is_refused(clip: CLIPModel, tmp_path: Path):
    with pytest.raises(ValueError, match="`train_dataset` has 7 rows, fewer than one global batch of 8"):
        make_trainer(clip, make_dataset(7), tmp_path)


def test_an_empty_evaluation_set_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="Evaluation has no examples"):
        make_trainer(clip, dataset, tmp_path, eval_dataset=dataset.select([])).evaluate()


def test_data_parallel_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ContrastiveTrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match=r"sees 2 GPUs .* `accelerate launch`"):
        make_trainer(clip, dataset, tmp_path)


# ---- False negatives and memory ----


def with_ids(rows: int, ids: list[int]) -> Dataset:
    return make_dataset(rows).add_column("example_ids", ids)


def test_rows_that_show_the_same_are_no_negatives_and_are_counted(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, with_ids(8, [0, 0, 0, 1, 1, 2, 3, 4]), tmp_path, max_steps=1)
    trainer.train()
    # 3 * 2 + 2 * 1 ordered pairs of different rows with one id.
    assert trainer.state.log_history[0]["false_negatives"] == 8


def test_logged_retrieval_takes_any_row_of_the_id_for_a_match(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(clip, with_ids(8, [7] * 8), tmp_path, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["retrieval/image_to_text_recall@1"] == 1


def test_a_margin_takes_what_is_nearer_than_its_own_pair_for_the_same(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    counts = []
    for margin in (0.0, 2.0):
        trainer = make_trainer(clip, dataset, tmp_path, max_steps=1, false_negative_margin=margin, learning_rate=0.0)
        trainer.train()
        counts.append(trainer.state.log_history[0]["false_negatives"])
    assert 0 < counts[0] < 8 * 7
    assert counts[1] == 0


def test_past_embeddings_are_negatives_once_the_queue_may_start(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    seen = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append({m: len(rows.embeds) for m, rows in batch.queue.items()})
        return CLIP()(batch)

    make_trainer(clip, dataset, tmp_path, loss_object=loss, max_steps=4, queue_size=12, queue_start=0.25).train()
    assert seen == [{}, {"image": 8, "text": 8}, {"image": 12, "text": 12}, {"image": 12, "text": 12}]


@pytest.mark.parametrize("loss", ["siglip", "align_uniform"])
def test_a_queue_that_the_loss_would_not_use_is_refused(loss: str, dataset: Dataset, tmp_path: Path):
    model = tiny_siglip()
    trainer = make_trainer(model, dataset, tmp_path, loss=loss, max_steps=4, queue_size=12)
    with pytest.raises(ValueError, match=r"`queue_size` is 12, but .* has no use for past embeddings"):
        trainer.train()


def test_the_queue_is_saved_and_resumed(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"queue_size": 12, "queue_start": 0.0, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    weights = {name: x.clone() for name, x in clip.state_dict().items()}
    whole = make_trainer(clip, dataset, tmp_path / "whole", **options)
    whole.train()
    clip.load_state_dict(weights)
    resumed = make_trainer(clip, dataset, tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    losses = [
        [log["loss"] for log in t.state.log_history if log.get("step", 0) > 2 and "loss" in log]
        for t in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    for m, rows in whole.queue.rows().items():
        torch.testing.assert_close(resumed.queue.rows()[m], rows, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_negative_margin": -0.1}, "false_negative_margin must be finite and not negative"),
        ({"queue_size": -1}, "queue_size must not be negative"),
        ({"queue_start": 1.0}, "queue_start is a fraction"),
    ],
)
def test_an_impossible_queue_is_refused(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, **options)
