"""What a card says of a finished run, read from its trainer."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import CLIPModel, CLIPProcessor, SiglipModel, set_seed

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, ContrastiveTrainingArguments, PairDataset
from hf_contrastive.data.fingerprint import fingerprint
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.training.run_facts import audit_numbers, training_facts
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
    [("dev split of the dataset 'x'", "dev"), ("held-out split of the dataset 'x'", None), ("dataset", "test")],
)
def test_the_split_that_was_measured_is_read_from_its_name(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, name: str, split: str | None
):
    rows = PairDataset(make_pairs(4), name=name)
    assert facts_of(clip, dataset, tmp_path, test=rows).test_split == split


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
