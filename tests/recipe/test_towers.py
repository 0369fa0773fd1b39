"""Joined towers from a recipe's arguments: encoders, processors, columns and data."""

import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Audio, Dataset, Image, List, Value
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPImageProcessor,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    set_seed,
)

from hf_contrastive import ContrastiveTrainingArguments, parse_recipe
from hf_contrastive.data import ExampleDataset, ExampleSplits, ExampleStream
from hf_contrastive.models import MultiEncoder
from hf_contrastive.models.from_scratch import train_tokenizer
from hf_contrastive.recipe import as_arguments
from hf_contrastive.recipe.run import Run, make_trainer, save_runs, train_and_test
from hf_contrastive.recipe.towers import JoinedArguments, join_towers, load_joined_data, mapping_of
from hf_contrastive.report import check_card
from tests.conftest import COLORS, make_pairs
from tests.models.tower_table import LAYERS, TABLE


TEXTS = [f"a {color} picture number {row}" for row, color in enumerate(COLORS * 3)]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a ViT, a BERT and a Wav2Vec2 with their processors."""
    set_seed(0)
    root = tmp_path_factory.mktemp("towers")
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, max_tokens=64)
    square = {"height": 8, "width": 8}
    parts: dict[str, tuple[Any, Any]] = {
        "image": (
            ViTModel(ViTConfig(**LAYERS, image_size=8, patch_size=4)),
            CLIPImageProcessor(size=square, crop_size=square),
        ),
        "text": (BertModel(BertConfig(**LAYERS, vocab_size=len(tokenizer), max_position_embeddings=16)), tokenizer),
        "audio": (Wav2Vec2Model(_config("wav2vec2")), Wav2Vec2FeatureExtractor(sampling_rate=16_000)),
    }
    for name, (model, processor) in parts.items():
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return {name: str(root / name) for name in parts}


def _config(name: str) -> Any:
    found = TABLE[name].config
    assert isinstance(found, Wav2Vec2Config)
    return found


def arguments(folder: Path, loss: str = "clip", **options: Any) -> ContrastiveTrainingArguments:
    common: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 8, "save_strategy": "no", "use_cpu": True}
    common |= {"report_to": "none", "disable_tqdm": True, "negatives_audit": False}
    return ContrastiveTrainingArguments(str(folder), loss=loss, **common | options)


def narrated(rows: int = 24) -> Dataset:
    """Pictures, names, sounds of 16,000 samples a second and features, in columns of other names than modalities."""
    pairs = make_pairs(rows).rename_columns({"image": "photo", "caption": "alt"})
    rng = np.random.default_rng(0)
    sounds = [{"array": rng.normal(size=400).astype("float32"), "sampling_rate": 16_000} for _ in range(rows)]
    return pairs.add_column("speech", sounds).add_column("vector", list(rng.normal(size=(rows, 6)).astype("float32")))


COLUMNS = {"image": "photo", "text": "alt", "audio": "speech", "product": "vector"}


def run(recipe: JoinedArguments, data: Path, folder: Path, **options: Any) -> Run:
    args = arguments(folder, **options)
    model, processor = join_towers(recipe, args)
    splits = load_joined_data(recipe, processor, str(data), usual={})
    return train_and_test(make_trainer(model, processor, args, splits), splits.test, name=args.loss)


# ---- Arguments ----


def parse(*argv: str) -> JoinedArguments:
    recipe: JoinedArguments = parse_recipe(JoinedArguments, argv=argv)[0]
    return recipe


def test_options_are_json_on_the_command_line_and_mappings_in_yaml():
    config = {"towers": {"image": "a", "product": 256}, "head": {"image": "mlp"}, "columns": {"image": "photo"}}
    by_line = parse(
        "--towers", '{"image": "a", "product": 256}', "--head", '{"image": "mlp"}', "--columns", '{"image": "photo"}'
    )
    assert by_line == parse(*as_arguments(config))
    assert {name: getattr(by_line, name) for name in config} == config
    assert by_line.modalities == ["image", "product"]


def test_one_word_is_for_all_towers():
    assert parse("--towers", '{"image": "a", "text": "b"}', "--head", "mlp", "--pooling=mean").head == "mlp"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"towers": "facebook/dinov2-small"},
            "`towers` must be a JSON object such as .*, but got 'facebook/dinov2-small'",
        ),
        ({"towers": "{}"}, "`towers` must be a JSON object"),
        ({"columns": {"image": "photo"}}, "`columns` is for towers that are joined: name these with `towers`"),
        ({"head": "mlp"}, "`head` is for towers that are joined"),
        ({"towers": {"image": "a", "text": "b"}, "columns": {"audio": "c"}}, r"`columns` is for \['audio'\], but the"),
        (
            {"towers": {"image": "a", "text": "b"}, "processors": {"voice": "c"}},
            r"`processors` is for \['voice'\], but the",
        ),
        ({"towers": {"image": "a", "text": "b"}, "max_length": 0}, "`max_length` must be at least 1 token, but got 0"),
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        JoinedArguments(**given)


def test_every_option_has_help():
    assert not [x.name for x in fields(JoinedArguments) if not x.metadata.get("help")]


# ---- Towers and processors ----


def test_each_tower_has_its_own_processor_and_all_are_saved_together(towers: dict[str, str], tmp_path: Path):
    recipe = JoinedArguments(towers=towers | {"product": 6}, width=12, head={"text": "mlp"})
    model, processor = join_towers(recipe, arguments(tmp_path))
    assert {m: part.kind for m, part in processor.modalities.items()} == {
        "audio": "audio",
        "image": "image",
        "product": "embedding",
        "text": "text",
    }
    model.save_pretrained(tmp_path / "joined")
    again = AutoModel.from_pretrained(tmp_path / "joined")
    torch.testing.assert_close(again.encode_text(["a red"]), model.encode_text(["a red"]), rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_heads(towers: dict[str, str], tmp_path: Path):
    recipe = JoinedArguments(towers=towers, width=12)
    first, again = (join_towers(recipe, arguments(tmp_path))[0].state_dict() for _ in range(2))
    assert all(torch.equal(x, again[name]) for name, x in first.items())


def test_weights_of_half_precision_are_trained_in_single(towers: dict[str, str], tmp_path: Path):
    AutoModel.from_pretrained(towers["text"]).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    recipe = JoinedArguments(
        towers={"text": str(tmp_path / "half"), "product": 6}, processors={"text": towers["text"]}, width=12
    )
    model, _ = join_towers(recipe, arguments(tmp_path))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("loss", "has_bias"), [("siglip", True), ("clip", False)])
def test_a_loss_that_uses_a_bias_gets_one(towers: dict[str, str], tmp_path: Path, loss: str, has_bias: bool):
    model, _ = join_towers(JoinedArguments(towers=towers, width=12), arguments(tmp_path, loss))
    assert hasattr(model, "logit_bias") == has_bias


@pytest.mark.parametrize(("given", "longest"), [(None, 16), (5, 5)])
def test_texts_are_cut_where_the_tower_ends_or_before(
    towers: dict[str, str], tmp_path: Path, given: int | None, longest: int
):
    # The tokenizer was saved for 64 tokens, the tower has 16 positions.
    recipe = JoinedArguments(towers={"text": towers["text"], "product": 6}, width=12, max_length=given)
    model, processor = join_towers(recipe, arguments(tmp_path))
    assert processor(text=["a red picture " * 20])["input_ids"].shape == (1, longest)
    assert model.encode_text(["a red picture " * 20]).isfinite().all()


def test_siglip_reads_texts_of_one_length(towers: dict[str, str], tmp_path: Path):
    MultiEncoder.from_towers({"text": TABLE["siglip_text"].config, "product": 6}, width=12).text_model.save_pretrained(
        tmp_path / "siglip"
    )
    given = {"text": str(tmp_path / "siglip"), "product": 6}
    recipe = JoinedArguments(towers=given, processors={"text": towers["text"]}, max_length=4)
    with pytest.raises(ValueError, match="`max_length` is 4, but the text tower, a SigLIP, reads texts of one length"):
        join_towers(recipe, arguments(tmp_path))


def test_a_tokenizer_without_padding_pads_with_its_end(towers: dict[str, str], tmp_path: Path):
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, max_tokens=16)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "decoder")
    recipe = JoinedArguments(
        towers={"text": towers["text"], "product": 6}, processors={"text": str(tmp_path / "decoder")}, width=12
    )
    _model, processor = join_towers(recipe, arguments(tmp_path))
    mask = processor(text=["a", "a red picture"])["attention_mask"]
    assert mask.sum(dim=1).tolist() == [3, mask.shape[1]]
    assert processor.tokenizer.pad_token == processor.tokenizer.eos_token


def test_two_texts_may_share_a_tower(towers: dict[str, str], tmp_path: Path):
    recipe = JoinedArguments(towers={"query": towers["text"]}, shared={"document": "query"}, width=12)
    model, _processor = join_towers(recipe, arguments(tmp_path))
    assert recipe.modalities == model.modalities == ["document", "query"]
    texts = ["a red picture", "something"]
    torch.testing.assert_close(model.encode("query", texts), model.encode("document", texts))


def test_a_folder_without_processor_is_told_with_what_to_do(towers: dict[str, str], tmp_path: Path):
    ViTModel(ViTConfig(**LAYERS, image_size=8, patch_size=4)).save_pretrained(tmp_path / "bare")
    recipe = JoinedArguments(towers={"image": str(tmp_path / "bare"), "text": towers["text"]}, width=12)
    with pytest.raises(
        ValueError, match=r"bare' holds no image processor for the image tower .*: `processors`, such as"
    ):
        join_towers(recipe, arguments(tmp_path))
    recipe = JoinedArguments(
        towers={"image": str(tmp_path / "bare"), "text": towers["text"]},
        processors={"image": towers["image"]},
        width=12,
    )
    assert join_towers(recipe, arguments(tmp_path))[1].image_processor.size["height"] == 8


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"image": "./nowhere", "product": 6},
            FileNotFoundError,
            "`towers` has the path './nowhere' for 'image', where",
        ),
        (
            {"image": "256", "product": 6},
            ValueError,
            "`towers` must give a Hub id or folder for 'image', or a width, but got '256'",
        ),
        (
            {"image": "no/such-encoder", "product": 6},
            OSError,
            r"Of the towers \{'image': 'no/such-encoder'.*, one could not",
        ),
        (
            {"image": 1.5, "product": 6},
            ValueError,
            "`towers` must give a Hub id or folder for 'image', or a width, but got 1.5",
        ),
    ],
)
def test_towers_that_are_none_are_refused(given: Any, error: type[Exception], message: str, tmp_path: Path):
    with pytest.raises(error, match=message):
        join_towers(JoinedArguments(towers=given), arguments(tmp_path))


def test_features_need_no_processor(towers: dict[str, str], tmp_path: Path):
    recipe = JoinedArguments(towers={"text": towers["text"], "product": 6}, processors={"product": "x"})
    with pytest.raises(ValueError, match="`processors` has one for 'product', whose features are precomputed"):
        join_towers(recipe, arguments(tmp_path))


# ---- Data ----


def load(towers: dict[str, str], data: Dataset, tmp_path: Path, columns: Any = None, **options: Any) -> ExampleSplits:
    data.to_parquet(tmp_path / "data.parquet")
    recipe = JoinedArguments(towers=towers, columns=columns, width=12)
    _, processor = join_towers(recipe, arguments(tmp_path))
    usual = options.pop("usual", {})
    return load_joined_data(recipe, processor, str(tmp_path / "data.parquet"), usual=usual, **options)


def test_columns_of_any_name_are_read_as_the_modalities(towers: dict[str, str], tmp_path: Path):
    splits = load(towers | {"product": 6}, narrated(), tmp_path, COLUMNS)
    assert (len(splits.train), len(splits.test)) == (22, 2)
    example = splits.train[0]
    assert set(example) == set(COLUMNS)
    assert example["image"].mode == "RGB"
    assert len(example["product"]) == 6


def test_unnamed_columns_are_the_usual_ones(towers: dict[str, str], tmp_path: Path):
    pair = {m: towers[m] for m in ("image", "text")}
    splits = load(pair, make_pairs(20), tmp_path, usual={"image": "image", "text": None})
    assert splits.train.columns == {"image": "image", "text": "caption"}


def test_pictures_may_be_paths(towers: dict[str, str], tmp_path: Path):
    pairs = make_pairs(20).cast_column("image", Image(decode=False))
    for row, entry in enumerate(pairs["image"]):
        (tmp_path / f"{row}.png").write_bytes(entry["bytes"])
    paths = pairs.remove_columns("image").add_column("image", [str(tmp_path / f"{row}.png") for row in range(20)])
    splits = load({m: towers[m] for m in ("image", "text")}, paths, tmp_path, {"text": "caption"})
    assert splits.test[0]["image"].size == (16, 16)


def encoded_sounds() -> Dataset:
    # Cast, as to encode takes torchcodec.
    rows = Dataset.from_dict({"caption": TEXTS[:20], "voice": [{"bytes": b"RIFF", "path": None}] * 20})
    return rows.cast_column("voice", Audio(decode=False))


def test_encoded_sounds_are_decoded_at_the_rate_of_the_processor(
    towers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", True)
    pair = {m: towers[m] for m in ("audio", "text")}
    splits = load(pair, encoded_sounds(), tmp_path, {"text": "caption", "audio": "voice"})
    assert splits.train.features["voice"].sampling_rate == 16_000


def test_what_decodes_sounds_is_named_where_it_is_missing(
    towers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    pair = {m: towers[m] for m in ("audio", "text")}
    with pytest.raises(ImportError, match=r"Column 'voice' holds encoded sounds, .*'hf-contrastive\[audio\]'"):
        load(pair, encoded_sounds(), tmp_path, {"text": "caption", "audio": "voice"})


def test_a_column_that_is_not_there_is_told_with_those_that_are(towers: dict[str, str], tmp_path: Path):
    pair = {m: towers[m] for m in ("image", "text")}
    with pytest.raises(
        ValueError, match=r"has no column 'image' for 'image'. Its columns: \['photo', .* with `columns`"
    ):
        load(pair, narrated(), tmp_path, {"text": "alt"})


def test_a_column_of_another_kind_is_told(towers: dict[str, str], tmp_path: Path):
    pair = {m: towers[m] for m in ("image", "text")}
    with pytest.raises(ValueError, match=r"Column 'vector' of the .* must hold images, their bytes or their paths"):
        load(pair, narrated(), tmp_path, {"image": "vector", "text": "alt"})


def test_of_three_modalities_rows_that_lack_one_train_and_are_not_measured(
    towers: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = narrated(24)
    vectors = [None if row % 2 else x for row, x in enumerate(data["vector"])]
    data = data.remove_columns("vector").add_column("vector", vectors, feature=List(Value("float32")))
    logging.getLogger("hf_contrastive").propagate = True
    given = {"image": towers["image"], "text": towers["text"], "product": 6}
    splits = load(given, data, tmp_path, {m: COLUMNS[m] for m in given}, max_test_rows=None)
    assert isinstance(splits.train, ExampleDataset)
    absent = sum(splits.train[row]["product"] is None for row in range(len(splits.train)))
    assert absent + 2 - len(splits.test) == 12
    assert all(splits.test[row]["product"] is not None for row in range(len(splits.test)))


def test_a_stream_has_the_rows_of_the_map(towers: dict[str, str], tmp_path: Path):
    narrated().to_parquet(tmp_path / "train.parquet")
    narrated(6).to_parquet(tmp_path / "test.parquet")
    given = {"image": towers["image"], "text": towers["text"], "product": 6}
    recipe = JoinedArguments(towers=given, columns={m: COLUMNS[m] for m in given}, width=12)
    _, processor = join_towers(recipe, arguments(tmp_path))
    splits = load_joined_data(recipe, processor, str(tmp_path), usual={}, streaming=True, buffer_size=0)
    mapped = load_joined_data(recipe, processor, str(tmp_path), usual={})
    assert isinstance(splits.train, ExampleStream)
    assert isinstance(mapped.train, ExampleDataset)
    found = list(splits.train)
    assert [row["text"] for row in found] == [mapped.train[row]["text"] for row in range(24)]
    np.testing.assert_allclose(found[3]["product"], mapped.train[3]["product"])
    assert found[3]["image"].tobytes() == mapped.train[3]["image"].tobytes()
    assert (len(splits.validation), len(splits.test)) == (6, 6)


# ---- Runs ----


def test_four_modalities_are_trained_measured_and_described(towers: dict[str, str], tmp_path: Path):
    narrated().to_parquet(tmp_path / "data.parquet")
    recipe = JoinedArguments(towers=towers | {"product": 6}, columns=COLUMNS, width=12, scale_per_pair=True)
    folder = tmp_path / "out"
    found = run(recipe, tmp_path / "data.parquet", folder, freeze_towers=["image"], loss="clip_divergence")
    keys = set(found.result.metrics)
    for pair in ("audio_to_image", "product_to_text", "text_to_audio"):
        assert f"retrieval/{pair}_recall@1" in keys
    save_runs([found], dataset="narrated", base_model=None, train_rows=22)
    check_card(folder)
    assert {"model.safetensors", "processor_config.json", "geometry.png", "metrics.json"} <= {
        path.name for path in folder.iterdir()
    }
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Audio, image, product and text encoders" in card
    loaded = AutoModel.from_pretrained(folder)
    assert isinstance(loaded, MultiEncoder)
    assert loaded.encode_text(["a red"]).shape == (1, 12)


def test_a_resumed_run_of_joined_towers_goes_on(towers: dict[str, str], tmp_path: Path):
    narrated().to_parquet(tmp_path / "data.parquet")
    given = {"image": towers["image"], "text": towers["text"]}
    recipe = JoinedArguments(towers=given, columns={"image": "photo", "text": "alt"}, width=12)
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    whole = run(recipe, tmp_path / "data.parquet", tmp_path / "whole", max_steps=3, **options)
    run(recipe, tmp_path / "data.parquet", tmp_path / "cut", max_steps=2, **options)
    cut = run(
        recipe, tmp_path / "data.parquet", tmp_path / "cut", max_steps=3, resume_from_checkpoint="true", **options
    )
    states = [x.trainer.model.state_dict() for x in (whole, cut)]
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_the_options_of_a_run_are_json(towers: dict[str, str]):
    recipe = JoinedArguments(towers=json.dumps(towers))
    assert mapping_of(recipe.towers) == towers
