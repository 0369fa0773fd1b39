"""What a card says of a finished run, read from its trainer."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Split
from transformers import CLIPModel, CLIPProcessor, SiglipModel, set_seed

from hf_contrastive import (
    ContrastiveCollator,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    PairDataset,
    mix_datasets,
)
from hf_contrastive.data.fingerprint import fingerprint
from hf_contrastive.data.pair_stream import PairStream
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.training.run_facts import audit_numbers, names_of, other_name_of, scales_of, training_facts
from tests.conftest import make_pairs, tiny_siglip
from tests.training.test_trainer import make_trainer


def facts_of(model: Any, dataset: Dataset, folder: Path, **options: Any) -> TrainingFacts:
    test = options.pop("test", None)
    trainer = make_trainer(model, dataset, folder, **options)
    return training_facts(trainer, dataset="rows", base_model=None, train_rows=len(dataset), test=test)


def test_data_of_any_kind_has_its_fingerprint(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    assert facts_of(clip, dataset, tmp_path).dataset_fingerprint == fingerprint(dataset)


@pytest.mark.parametrize(
    ("name", "split"),
    [("dev split of the dataset 'x'", "dev"), ("held-out split of the dataset 'x'", None), ("dataset", "evaluation")],
)
def test_the_split_that_was_measured_is_read_from_its_name(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, name: str, split: str | None
):
    rows = PairDataset(make_pairs(4), name=name)
    assert facts_of(clip, dataset, tmp_path, test=rows).test_split == split


def test_rows_cut_out_of_the_training_split_are_not_called_by_its_name(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    split = Dataset(dataset.data, split=Split.TRAIN)
    parts = split.train_test_split(4, shuffle=False)
    assert facts_of(clip, parts["train"], tmp_path, test=parts["test"]).test_split == "evaluation"
    assert facts_of(clip, split, tmp_path, test=split).test_split == "train"
    other = Dataset(dataset.data, split=Split.VALIDATION)
    assert facts_of(clip, split, tmp_path, test=other).test_split == "validation"


def test_data_are_called_as_datasets_calls_them():
    rows = make_pairs(4)
    assert names_of(rows) == ["data of the author's own"]
    stream = rows.to_iterable_dataset()
    rows.info.dataset_name = stream.info.dataset_name = "flickr"
    for data in (rows, stream, PairDataset(rows), PairStream(stream)):
        assert names_of(data) == ["flickr"]
    rows.info.dataset_name = "parquet"
    assert names_of(rows) == ["data of the author's own"]


def test_data_that_are_mixed_are_called_as_their_parts():
    parts = {"coco": make_pairs(4), "cc3m": make_pairs(4)}
    assert names_of(mix_datasets(parts)) == ["coco", "cc3m"]
    assert names_of(mix_datasets({m: rows.to_iterable_dataset() for m, rows in parts.items()})) == ["coco", "cc3m"]


def test_what_was_measured_is_named_where_it_is_other_data():
    parts = {"coco": make_pairs(4), "cc3m": make_pairs(4)}
    mix, flickr = mix_datasets(parts), make_pairs(4)
    assert other_name_of(make_pairs(2), make_pairs(4)) is None
    assert other_name_of(parts["coco"], mix) == "coco"
    assert other_name_of(make_pairs(2), mix) == "data of the author's own"
    assert other_name_of(mix, mix) is None
    flickr.info.dataset_name = "flickr"
    assert other_name_of(flickr, mix) == other_name_of(flickr, parts["coco"]) == "flickr"
    assert other_name_of(flickr.select(range(2)), flickr) is None


def test_the_temperature_is_that_of_the_weights(clip: CLIPModel):
    clip.logit_scale.data.fill_(math.log(20.0))
    assert scales_of(clip, ("image", "text")) == {"logit_scale": pytest.approx(20.0)}
    clip.logit_scale = torch.nn.Parameter(torch.tensor([10.0, 20.0, 40.0]).log())
    found = scales_of(clip, ("text", "image", "audio"))
    assert found["logit_scale"] == pytest.approx(20.0)
    assert found["logit_scale/audio_image"] == pytest.approx(10.0)
    assert found["logit_scale/image_text"] == pytest.approx(40.0)


def test_a_bias_is_told_where_the_loss_reads_it(dataset: Dataset, tmp_path: Path):
    set_seed(0)
    model: SiglipModel = tiny_siglip()
    model.logit_bias.data.fill_(-3.0)
    assert facts_of(model, dataset, tmp_path, loss="siglip").biases == (-3.0,)
    assert facts_of(model, dataset, tmp_path, loss="clip").biases == ()


def test_the_audit_of_a_run_is_read_from_its_logs():
    logs = [{"loss": 1.0}, {"audit/negatives": 7.0, "loss": 2.0}, {"audit/negatives": 9.0}]
    assert audit_numbers(logs) == {"audit/negatives": 7.0}
    assert audit_numbers([]) == {}


def test_the_limit_of_the_processor_is_told(clip: CLIPModel, saved_clip: Path, dataset: Dataset, tmp_path: Path):
    processor = CLIPProcessor.from_pretrained(saved_clip)
    processor.tokenizer.model_max_length = 6
    collators = {
        6: [{}, {"data_collator": ContrastiveCollator(processor=processor)}],
        5: [
            {
                "data_collator": ContrastiveCollator(
                    processor=processor, processor_kwargs={"truncation": True, "max_length": 5}
                )
            }
        ],
    }
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    for tokens, given in ((tokens, given) for tokens, several in collators.items() for given in several):
        trainer = ContrastiveTrainer(clip, args, train_dataset=dataset, processing_class=processor, **given)
        found = training_facts(trainer, dataset="rows", base_model=None, train_rows=None)
        assert f"Texts are cut after {tokens} tokens." in found.inputs
