"""The model card: its metadata, its numbers, its code."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.losses import get_loss
from hf_contrastive.report import Sharing, check_card, geometry_table, result_table, write_model_card
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.objective import Objective
from tests.report.runs import FACTS, METRICS, front_matter, make_result, write_card


def test_the_card_holds_the_table_of_all_runs(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    assert result_table(results) in write_card(tmp_path)


def test_the_card_has_all_geometry_folded_away(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    text = write_card(tmp_path)
    start, end = text.index("<details>"), text.index("</details>")
    assert geometry_table(results) in text[start:end]
    assert "hubs are of" not in text, "These results do not say how many rows were sampled."


def test_the_card_says_how_many_rows_were_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "geometry/quadratic_rows_image", 2048.0)
    monkeypatch.setitem(METRICS, "geometry/gaussianity_rows_text", 1000.0)
    text = write_card(tmp_path)
    assert "Energy distance, divergence and hubs are of 2,048 rows." in text
    assert "The shape was tested on 1,000 rows." in text


@pytest.mark.parametrize("picture", [None, "geometry.png"])
def test_the_picture_is_shown_if_there_is_one(tmp_path: Path, picture: str | None):
    assert ("](geometry.png)" in write_card(tmp_path, picture=picture)) == (picture is not None)


def test_no_template_syntax_is_left(tmp_path: Path):
    assert not re.search(r"\{\{ | \}\}|\{%|%\}|None,|Undefined", write_card(tmp_path))


def test_the_card_is_called_as_on_the_hub(tmp_path: Path):
    text = write_card(tmp_path, hub_model_id="tester/scenes")
    assert "# scenes\n" in text
    assert 'from_pretrained("tester/scenes")' in text


def test_the_card_holds_neither_the_token_of_the_run_nor_a_place_of_this_machine(tmp_path: Path):
    place = Path.home() / "pictures" / "of_me"
    loss = f"MyLoss(key='secret-of-mine', other='hf_{'a' * 30}', table='{place}')"
    text = write_card(tmp_path, loss=loss, hub_token="secret-of-mine")
    assert "MyLoss(" in text
    for secret in ("secret-of-mine", "hf_aaa", str(Path.home())):
        assert secret not in text


@pytest.mark.parametrize("loss", ["MyLoss(weight=1.0)", "my.module.<locals>.loss", "<function loss at 0x7f>"])
def test_a_loss_of_the_authors_own_is_no_obstacle(tmp_path: Path, loss: str):
    text = write_card(tmp_path, loss=loss)
    assert "loss:custom" in front_matter(text)["tags"]
    assert "A loss of the author's own" in text


def test_a_loss_of_the_authors_own_cites_no_paper(tmp_path: Path):
    assert "1807.03748" not in write_card(tmp_path, loss="MyLoss(weight=1.0)")


@pytest.mark.slow
def test_every_snippet_of_the_card_runs_in_the_folder_of_the_card(
    saved_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "encoder"
    shutil.copytree(saved_clip, folder)
    codes = re.findall(r"```python\n(.*?)```", write_card(folder), re.DOTALL)
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
    first = write_card(tmp_path)
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
    write_card(tmp_path)
    assert (tmp_path / "_README.old.md").read_text(encoding="utf-8").endswith("mine\n")
    check_card(tmp_path)


def test_cards_that_were_set_aside_stay_as_they_are(tmp_path: Path):
    first, second = "# grün\n".encode("latin-1"), "# blå\n".encode("latin-1")
    for data in (first, second, second):
        (tmp_path / "README.md").write_bytes(data)
        write_card(tmp_path)
    assert (tmp_path / "_README.old.md").read_bytes() == first
    assert (tmp_path / "_README.old.2.md").read_bytes() == second
    assert not (tmp_path / "_README.old.3.md").exists()


def test_a_card_with_the_mark_of_some_editors_keeps_its_metadata(tmp_path: Path):
    (tmp_path / "README.md").write_text("\ufeff---\nlicense: mit\n---\n# Mine\n", encoding="utf-8")
    text = write_card(tmp_path)
    assert front_matter(text)["license"] == "mit"
    assert "# Mine" in text


def test_a_licence_is_never_made_up(tmp_path: Path):
    text = write_card(tmp_path)
    assert front_matter(text)["license"] == "unknown"
    assert "No licence was chosen" in text
    assert "ask its author. The data may have terms of their own." in text
    assert "The data and the base model may have" in write_card(
        tmp_path / "b", base_model="openai/clip-vit-base-patch32"
    )


def test_what_the_author_says_is_in_the_card(tmp_path: Path):
    sharing = Sharing(license="other", license_name="lab-1.0", license_link="LICENSE", language=["en", "de"])
    text = write_card(tmp_path, sharing=sharing)
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


def test_a_loss_made_of_others_cites_them_all(tmp_path: Path):
    loss = get_loss("weighted_sum", parts=[{"name": "clip"}, {"name": "sliced_gaussian", "weight": 0.1}])
    text = write_card(tmp_path, objective=Objective.of(loss))
    assert all(f"eprint = {{{paper}}}" in text for paper in ("2103.00020", "2511.08544"))
    assert text.count("\n$$\n") == 6
    assert {"loss:weighted_sum", "loss:clip", "loss:sliced_gaussian"} <= set(front_matter(text)["tags"])


def test_a_score_on_a_benchmark_is_where_the_hub_looks_for_it(tmp_path: Path):
    write_card(tmp_path, dataset="your-org/bench", sharing=Sharing(benchmark_task="retrieval"))
    entries = yaml.safe_load((tmp_path / ".eval_results" / "your-org-bench.yaml").read_text(encoding="utf-8"))
    (entry,) = parse_eval_result_entries(entries)
    assert (entry.dataset_id, entry.task_id) == ("your-org/bench", "retrieval")
    assert entry.value == pytest.approx(METRICS["retrieval/image_to_text_recall@1"])
    check_card(tmp_path)


def test_a_model_with_a_class_of_ours_says_what_it_needs(tmp_path: Path):
    text = write_card(tmp_path, plain=False, model_type="multi_encoder", modalities=("image", "text", "audio"))
    assert front_matter(text)["library_name"] == "hf_contrastive"
    assert "pip install hf-contrastive" in text
    assert "import hf_contrastive" in text


def test_a_written_card_passes_its_own_check(tmp_path: Path):
    write_card(tmp_path)
    check_card(tmp_path)


def test_the_first_lines_say_what_it_is_what_it_scores_and_how_to_use_it(tmp_path: Path):
    text = write_card(tmp_path, picture="geometry.png")
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
    text = write_card(tmp_path, test_split=split)
    assert f"On 50 pairs {told}" in text
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"].get("split") == split


def test_an_adapter_is_called_one(tmp_path: Path):
    base = "openai/clip-vit-base-patch32"
    text = write_card(tmp_path, base_model=base, adapter="LoRA of rank 8 on q_proj", hub_model_id="me/lora")
    front = front_matter(text)
    assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")
    assert front["pipeline_tag"] == "feature-extraction"
    assert "an adapter (LoRA of rank 8 on q_proj) of [openai/clip-vit-base-patch32]" in text
    assert f'AutoModel.from_pretrained("{base}")' in text
    assert 'load_adapter(base, "me/lora")' in text
    assert re.search(r"\| versions \|.* peft \d", text)


def test_a_class_of_the_authors_own_is_called_one(tmp_path: Path):
    text = write_card(tmp_path, plain=False, model_type="towers", model_class="ThreeTowers")
    assert "The class `ThreeTowers` is the author's own" in text
    assert "pip install" not in text
    assert "```python" not in text
