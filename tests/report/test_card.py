"""The model card: its metadata, its numbers, its code."""

import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.losses import get_loss
from hf_contrastive.report import Sharing, check_card, geometry_table, result_table, write_model_card
from hf_contrastive.report.facts import TowerFacts, TrainingFacts
from hf_contrastive.report.objective import Objective
from tests.report.runs import METRICS, make_result


FACTS: dict[str, Any] = {
    "dataset": "embedded scenes",
    "train_rows": 640,
    "base_model": None,
    "modalities": ("image", "text"),
    "model_type": "clip",
}


def write(folder: Path, *, loss: str = "CLIP(chunk_size=None)", **changed: Any) -> str:
    """The text of a card; `changed` are facts, arguments and `picture`."""
    names = [field.name for field in fields(TrainingFacts)]
    facts = TrainingFacts(**FACTS | {name: changed.pop(name) for name in names if name in changed})
    folder.mkdir(exist_ok=True)
    results = [make_result("clip", loss=loss), make_result("clip_divergence", shift=0.1)]
    picture = changed.pop("picture", None)
    args = ContrastiveTrainingArguments(str(folder / "output"), use_cpu=True, **changed)
    write_model_card(folder, results, args, facts, picture=picture)
    return (folder / "README.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_names_library_pipeline_and_loss(tmp_path: Path):
    front = front_matter(write(tmp_path))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert {"hf_contrastive", "loss:clip"} <= set(front["tags"])
    assert not {"base_model", "base_model_relation"} & set(front)


def test_front_matter_names_the_base_model(tmp_path: Path):
    text = write(tmp_path, base_model="openai/clip-vit-base-patch32")
    assert front_matter(text)["base_model"] == "openai/clip-vit-base-patch32"
    assert front_matter(text)["base_model_relation"] == "finetune"
    assert (
        "fine-tuned from [openai/clip-vit-base-patch32](https://huggingface.co/openai/clip-vit-base-patch32)" in text
    )


def test_a_folder_is_no_base_model(tmp_path: Path):
    text = write(tmp_path, base_model="/home/me/models/clip")
    assert "base_model" not in front_matter(text)
    assert "huggingface.co//home" not in text


def test_models_without_zero_shot_pipeline_are_feature_extractors(tmp_path: Path):
    assert front_matter(write(tmp_path, model_type="clap"))["pipeline_tag"] == "feature-extraction"
    front = front_matter(write(tmp_path, model_type="siglip", zero_shot=False))
    assert front["pipeline_tag"] == "feature-extraction"


def test_the_numbers_of_the_model_index_are_those_measured(tmp_path: Path):
    write(tmp_path)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert results is not None
    # What sampling alone would show is no result of the model.
    kinds = ("retrieval/", "geometry/modality_gap_image")
    measured = {name: value for name, value in METRICS.items() if name.startswith(kinds)}
    assert {result.metric_name: result.metric_value for result in results} == pytest.approx(measured, abs=5e-5)
    assert {result.dataset_name for result in results} == {"embedded scenes"}


def test_the_card_holds_the_table_of_all_runs(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    assert result_table(results) in write(tmp_path)


def test_the_card_has_all_geometry_folded_away(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    text = write(tmp_path)
    start, end = text.index("<details>"), text.index("</details>")
    assert geometry_table(results) in text[start:end]
    assert "hubs are of" not in text, "These results do not say how many rows were sampled."


def test_the_card_says_how_many_rows_were_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "geometry/quadratic_rows_image", 2048.0)
    monkeypatch.setitem(METRICS, "geometry/gaussianity_rows_text", 1000.0)
    text = write(tmp_path)
    assert "Energy distance, divergence and hubs are of 2048 rows." in text
    assert "The shape was tested on 1000 rows." in text


def test_the_card_says_how_the_model_was_trained(tmp_path: Path):
    text = write(tmp_path, learn_logit_scale=False, learning_rate=3e-4, weight_decay=0.1)
    for line in (
        "`clip` ([paper](https://huggingface.co/papers/2103.00020))",
        "With its options: `CLIP(chunk_size=None)`.",
        "| data | embedded scenes, 640 training pairs |",
        "| steps | 20 |",
        "| effective batch | 16 pairs an update |",
        "| negatives | 15 other items per row |",
        "| temperature | 1 / 50.0 at the end, fixed |",
        "peak learning rate 0.0003, weight decay 0.1, linear schedule, gradients clipped to a norm of 1 |",
        "| seed | 3 |",
    ):
        assert line in text


@pytest.mark.parametrize("picture", [None, "geometry.png"])
def test_the_picture_is_shown_if_there_is_one(tmp_path: Path, picture: str | None):
    assert ("](geometry.png)" in write(tmp_path, picture=picture)) == (picture is not None)


def test_no_template_syntax_is_left(tmp_path: Path):
    assert not re.search(r"\{\{ | \}\}|\{%|%\}|None,|Undefined", write(tmp_path))


def test_the_card_is_called_as_on_the_hub(tmp_path: Path):
    text = write(tmp_path, hub_model_id="tester/scenes")
    assert "# scenes\n" in text
    assert 'from_pretrained("tester/scenes")' in text


@pytest.mark.parametrize("loss", ["MyLoss(weight=1.0)", "my.module.<locals>.loss", "<function loss at 0x7f>"])
def test_a_loss_of_the_authors_own_is_no_obstacle(tmp_path: Path, loss: str):
    text = write(tmp_path, loss=loss)
    assert "loss:custom" in front_matter(text)["tags"]
    assert "A loss of the author's own" in text


def test_a_loss_of_the_authors_own_cites_no_paper(tmp_path: Path):
    assert "1807.03748" not in write(tmp_path, loss="MyLoss(weight=1.0)")


@pytest.mark.parametrize("name", ["pairs: 'quoted' #1", "größer | kleiner", "{{ braces }}"])
def test_odd_names_of_data_keep_the_front_matter_valid(tmp_path: Path, name: str):
    front = front_matter(write(tmp_path, dataset=name))
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name


@pytest.mark.slow
def test_every_snippet_of_the_card_runs_in_the_folder_of_the_card(
    saved_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "encoder"
    shutil.copytree(saved_clip, folder)
    codes = re.findall(r"```python\n(.*?)```", write(folder), re.DOTALL)
    monkeypatch.chdir(folder)
    assert len(codes) == 3
    printed = []
    for code in codes:
        # Whoever loads the model has no package of ours.
        assert "hf_contrastive" not in code
        exec(compile(code, "README.md", "exec"), {})
        printed.append(capsys.readouterr().out)
    assert printed[0].startswith("tensor([[0.")
    assert sorted(int(number) for number in re.findall(r"\d", printed[1])) == [0, 0, 1, 1, 2, 2]
    assert all(label in printed[2] for label in ("'score'", "'red'", "'green'"))


def test_a_second_run_keeps_what_people_wrote(tmp_path: Path):
    path = tmp_path / "README.md"
    first = write(tmp_path)
    edited = first.replace("license: unknown", "license: mit\nthumbnail: me.png")
    edited = edited.replace("- hf_contrastive\n", "- hf_contrastive\n- my-tag\n")
    edited = edited.replace(
        "<!-- hf_contrastive: limits -->", "## My notes\n\nMind the dog.\n\n<!-- hf_contrastive: limits -->"
    )
    edited = edited.replace("Biases and harms were not examined.", "We looked for biases: see the paper.")
    path.write_text(edited, encoding="utf-8")
    facts = TrainingFacts(**FACTS | {"train_rows": 641})
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    merged = write_model_card(tmp_path, [make_result("clip", loss="CLIP()")], args, facts)
    text = path.read_text(encoding="utf-8")
    front = front_matter(text)
    assert (front["license"], front["thumbnail"]) == ("mit", "me.png")
    assert "`mit`, as chosen by the author. The data" in text
    assert "No licence was chosen" not in text
    assert {"my-tag", "dataset_size:641"} <= set(front["tags"])
    assert "dataset_size:640" not in front["tags"]
    assert "Mind the dog." in text
    assert "We looked for biases" in text
    assert "641 training pairs" in text
    assert len(merged.kept) == 2
    assert any("'limits' was edited" in sentence for sentence in merged.kept)
    assert any(sentence.startswith("`license` is kept as 'mit'") for sentence in merged.kept)


def test_an_unreadable_card_is_set_aside(tmp_path: Path):
    (tmp_path / "README.md").write_text("---\ntags: [a\n---\nmine\n", encoding="utf-8")
    write(tmp_path)
    assert (tmp_path / "_README.old.md").read_text(encoding="utf-8").endswith("mine\n")
    check_card(tmp_path)


def test_cards_that_were_set_aside_stay_as_they_are(tmp_path: Path):
    first, second = "# grün\n".encode("latin-1"), "# blå\n".encode("latin-1")
    for data in (first, second, second):
        (tmp_path / "README.md").write_bytes(data)
        write(tmp_path)
    assert (tmp_path / "_README.old.md").read_bytes() == first
    assert (tmp_path / "_README.old.2.md").read_bytes() == second
    assert not (tmp_path / "_README.old.3.md").exists()


def test_a_card_with_the_mark_of_some_editors_keeps_its_metadata(tmp_path: Path):
    (tmp_path / "README.md").write_text("\ufeff---\nlicense: mit\n---\n# Mine\n", encoding="utf-8")
    text = write(tmp_path)
    assert front_matter(text)["license"] == "mit"
    assert "# Mine" in text


def test_the_card_names_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alice")
    token = "hf_" + "a1B2" * 8
    text = write(
        home / "runs",
        loss=f"MyLoss(table='{home}/secret.json', other='/srv/data/alice/x.bin')",
        dataset=str(home / "pairs.parquet"),
        base_model=str(home / "clip"),
        hub_token=token,
        run_name=token,
    )
    assert "alice" not in text
    assert str(tmp_path) not in text
    assert token not in text
    assert "pairs.parquet" in text
    assert "MyLoss(table='(local path)', other='(local path)')" in text


def test_a_folder_that_is_called_as_its_owner_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "alice")
    (tmp_path / "alice").mkdir()
    assert "alice" not in write(tmp_path, dataset=str(tmp_path / "alice"))


def test_a_licence_is_never_made_up(tmp_path: Path):
    text = write(tmp_path)
    assert front_matter(text)["license"] == "unknown"
    assert "No licence was chosen" in text
    assert "ask its author. The data may have terms of their own." in text
    assert "The data and the base model may have" in write(tmp_path / "b", base_model="openai/clip-vit-base-patch32")


def test_what_the_author_says_is_in_the_card(tmp_path: Path):
    sharing = Sharing(license="other", license_name="lab-1.0", license_link="LICENSE", language=["en", "de"])
    text = write(tmp_path, sharing=sharing)
    front = front_matter(text)
    assert (front["license"], front["license_name"], front["license_link"]) == ("other", "lab-1.0", "LICENSE")
    assert front["language"] == ["en", "de"]
    assert "[lab-1.0](LICENSE), as chosen by the author." in text


def test_measures_before_training_are_the_first_column(tmp_path: Path):
    before = {key: value / 2 for key, value in METRICS.items()}
    result = replace(make_result("clip"), before=before)
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    write_model_card(tmp_path, [result], args, TrainingFacts(**FACTS))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    # The headlines come first, all measures folded away below them.
    head, *_ = [line for line in text.splitlines() if line.startswith("| measure")]
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["measure", "before", "clip"]
    assert re.search(r"image to text, R@1 .*\| +0\.200 \| +0\.400 \|", text)


def test_the_audit_says_what_negatives_were(tmp_path: Path):
    audit = {
        "audit/negatives": 31.0,
        "audit/negatives_other_processes": 16.0,
        "audit/negatives_queue": 64.0,
        "audit/duplicates_unmasked": 0.25,
    }
    text = write(tmp_path, negatives=audit, processes=2)
    assert (
        "| negatives | 31 other items per row, 16 of them from other processes, and up to 64 from a queue of past "
        "batches, after 10% of the steps, in the first batches 0.25 with the same text among them |" in text
    )
    assert "| effective batch | 16 pairs an update, 8 on each of 2 processes |" in text
    assert "each row had 0.25 others with the same text among its negatives" in text


def test_an_objective_without_negatives_claims_none(tmp_path: Path):
    assert "| negatives | none, " in write(tmp_path, loss="VICReg()")


def test_a_loss_made_of_others_cites_them_all(tmp_path: Path):
    loss = get_loss("weighted_sum", parts=[{"name": "clip"}, {"name": "sliced_gaussian", "weight": 0.1}])
    text = write(tmp_path, objective=Objective.of(loss))
    assert all(f"eprint = {{{paper}}}" in text for paper in ("2103.00020", "2511.08544"))
    assert text.count("\n$$\n") == 6
    assert {"loss:weighted_sum", "loss:clip", "loss:sliced_gaussian"} <= set(front_matter(text)["tags"])


def test_a_dataset_of_the_hub_is_linked(tmp_path: Path):
    text = write(tmp_path, dataset="your-org/captions")
    front = front_matter(text)
    assert front["datasets"] == ["your-org/captions"]
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == "your-org/captions"
    assert "[your-org/captions](https://huggingface.co/datasets/your-org/captions), 640 training pairs" in text


def test_a_loader_is_no_dataset_of_the_hub(tmp_path: Path):
    assert "datasets" not in front_matter(write(tmp_path, dataset="imagefolder"))


def test_a_score_on_a_benchmark_is_where_the_hub_looks_for_it(tmp_path: Path):
    write(tmp_path, dataset="your-org/bench", sharing=Sharing(benchmark_task="retrieval"))
    entries = yaml.safe_load((tmp_path / ".eval_results" / "your-org-bench.yaml").read_text(encoding="utf-8"))
    (entry,) = parse_eval_result_entries(entries)
    assert (entry.dataset_id, entry.task_id) == ("your-org/bench", "retrieval")
    assert entry.value == pytest.approx(METRICS["retrieval/image_to_text_recall@1"])
    check_card(tmp_path)


def test_a_model_with_a_class_of_ours_says_what_it_needs(tmp_path: Path):
    text = write(tmp_path, plain=False, model_type="multi_encoder", modalities=("image", "text", "audio"))
    assert front_matter(text)["library_name"] == "hf_contrastive"
    assert "pip install hf-contrastive" in text
    assert "import hf_contrastive" in text


def test_a_written_card_passes_its_own_check(tmp_path: Path):
    write(tmp_path)
    check_card(tmp_path)


def test_models_that_towers_came_from_are_named(tmp_path: Path):
    common: dict[str, Any] = {"parameters": 2, "trainable": 2, "pooling": "cls", "projection": "linear"}
    names = {"image": "facebook/dinov2-small", "text": "answerdotai/ModernBERT-base"}
    towers = tuple(TowerFacts(modality=m, encoder="X", base=base, **common) for m, base in names.items())
    text = write(tmp_path, towers=towers)
    assert front_matter(text)["base_model"] == list(names.values())
    # The Hub takes a model of several for a merge unless it is told.
    assert front_matter(text)["base_model_relation"] == "finetune"
    assert (
        ": fine-tuned from [facebook/dinov2-small](https://huggingface.co/facebook/dinov2-small) and [answer" in text
    )
    assert "scratch" not in text


def test_the_first_lines_say_what_it_is_what_it_scores_and_how_to_use_it(tmp_path: Path):
    text = write(tmp_path, picture="geometry.png")
    first = text.partition("# scenes")[2] or text.partition("-->")[2]
    places = [first.index(part) for part in ("Image and text encoders", "R@1 0.400", "## Use it", "```python", "![")]
    assert places == sorted(places)
    assert (
        "**R@1 0.400 image to text and 0.350 text to image, among 50 candidates (chance 0.02); modality gap 0.250, "
        "where sampling alone shows 0.125.**" in text
    )
    assert "beside `clip_divergence`." in text


def test_a_run_without_retrieval_claims_no_score(tmp_path: Path):
    result = replace(make_result("clip"), metrics={"loss": 1.0, "logit_scale": 10.0})
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    write_model_card(tmp_path, [result], args, TrainingFacts(**FACTS))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "R@1" not in text.partition("## Limits")[0]
    assert "In brackets" not in text
    assert "reference" not in text.partition("## Objective")[0]


@pytest.mark.parametrize(
    ("split", "told"),
    [("validation", "of the validation split of embedded scenes"), (None, "of embedded scenes that were held out")],
)
def test_the_rows_that_were_measured_are_told(tmp_path: Path, split: str | None, told: str):
    text = write(tmp_path, test_split=split)
    assert f"On 50 pairs {told}" in text
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"].get("split") == split


def test_an_adapter_is_called_one(tmp_path: Path):
    base = "openai/clip-vit-base-patch32"
    text = write(tmp_path, base_model=base, adapter="LoRA of rank 8 on q_proj", hub_model_id="me/lora")
    front = front_matter(text)
    assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")
    assert front["pipeline_tag"] == "feature-extraction"
    assert "an adapter (LoRA of rank 8 on q_proj) of [openai/clip-vit-base-patch32]" in text
    assert f'AutoModel.from_pretrained("{base}")' in text
    assert 'load_adapter(base, "me/lora")' in text
    assert re.search(r"\| versions \|.* peft \d", text)


def test_a_class_of_the_authors_own_is_called_one(tmp_path: Path):
    text = write(tmp_path, plain=False, model_type="towers", model_class="ThreeTowers")
    assert "The class `ThreeTowers` is the author's own" in text
    assert "pip install" not in text
    assert "```python" not in text


def test_batches_that_are_each_others_negatives_count_without_an_audit(tmp_path: Path):
    options: dict[str, Any] = {"gradient_accumulation_steps": 4, "accumulate_negatives": True, "encode_chunk_size": 8}
    text = write(tmp_path, **options)
    assert "| negatives | 63 other items per row |" in text
    assert "64 pairs an update, 4 batches accumulated that are each other's negatives, embedded 8 at a time" in text
    assert "| negatives | 15 other items" in write(tmp_path / "b", gradient_accumulation_steps=4)


def test_a_temperature_for_each_pair_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "logit_scale/audio_text", 20.0)
    monkeypatch.setitem(METRICS, "logit_scale/image_text", 40.0)
    told = "one for each pair, at the end 1 / 20.0 audio and text, 1 / 40.0 image and text, learned"
    assert f"| temperature | {told} |" in write(tmp_path)


def test_a_temperature_that_does_nothing_is_not_reported(tmp_path: Path):
    text = write(tmp_path, loss="VICReg()", max_logit_scale=50.0)
    assert "| temperature | not used by the objective |" in text
    assert "upper bound" not in text


def test_what_else_shaped_the_weights_is_told(tmp_path: Path):
    options: dict[str, Any] = {"warmup_steps": 5, "tower_learning_rates": {"text": 1e-5}, "layer_decay": 0.8}
    text = write(tmp_path, ema_decay=0.99, save_ema=True, **options)
    assert "that of text 1e-05, times 0.8 for each layer down" in text
    assert "linear schedule after 5 steps of warm-up" in text
    assert "| weights | an exponential moving average that keeps 0.99 of itself at each step |" in text


def test_the_time_of_a_resumed_run_is_that_since(tmp_path: Path):
    result = replace(make_result("clip"), resumed_at=12)
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    write_model_card(tmp_path, [result], args, TrainingFacts(**FACTS))
    assert "61 s of training since step 12, from where it was resumed |" in (tmp_path / "README.md").read_text()


def test_mixed_datasets_are_all_linked(tmp_path: Path):
    text = write(tmp_path, dataset=["me/a", "you/b"])
    assert front_matter(text)["datasets"] == ["me/a", "you/b"]
    links = " and ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in ("me/a", "you/b"))
    assert f"| data | {links}, 640 training pairs |" in text


def test_what_a_loss_of_the_authors_own_compares_is_not_claimed(tmp_path: Path):
    told = "15 other items per row, where the author's objective compares with them"
    assert f"| negatives | {told} |" in write(tmp_path, loss="MyLoss()")


def test_the_bias_at_the_end_is_told(tmp_path: Path):
    assert "| bias | -9.50 at the end |" in write(tmp_path, loss="Siglip()", biases=(-9.5,))
    assert "| bias |" not in write(tmp_path / "b")


def test_texts_of_two_names_are_filed_under_sentences(tmp_path: Path):
    common: dict[str, Any] = {"encoder": "BertModel", "parameters": 2, "trainable": 2, "pooling": "cls"}
    names = ("document", "query")
    towers = tuple(TowerFacts(modality=m, kind="text", projection="linear", **common) for m in names)
    text = write(tmp_path, towers=towers, modalities=names, model_type="multi_encoder", plain=False)
    assert front_matter(text)["pipeline_tag"] == "sentence-similarity"
    assert front_matter(text)["model-index"][0]["results"][0]["task"]["type"] == "retrieval"
