"""Embeddings of models, files and tensors: the right rows, computed once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import CLIPModel, CLIPProcessor

from hf_contrastive import ExampleDataset, ModelEncoder, load_dual_encoder
from hf_contrastive.diagnosis.embedding import draw_rows
from hf_contrastive.diagnosis.options import DatasetOptions
from hf_contrastive.diagnosis.sources import EmbeddingSource, open_source
from tests.conftest import make_pairs
from tests.diagnosis.conftest import clouds
from tests.export.cases import encoder


@pytest.fixture
def pretrained(saved_clip: Path) -> tuple[CLIPModel, CLIPProcessor]:
    return load_dual_encoder(str(saved_clip))


def open_model(source: Any, folder: Path, dataset: Any = None, **options: Any) -> EmbeddingSource:
    dataset = make_pairs(12) if dataset is None else dataset
    return open_source(source, DatasetOptions(dataset=dataset, cache_dir=folder, progress=False, **options))


# ---- Models ----


def test_a_folder_and_a_loaded_model_embed_the_rows_of_a_dataset(
    saved_clip: Path, pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    pairs = make_pairs(12)
    found = open_model(str(saved_clip), tmp_path / "a", pairs, batch_size=5)
    assert found.name == str(saved_clip)
    assert found.rows == tuple(range(12))
    assert found.logit_scale == pytest.approx(float(pretrained[0].logit_scale.detach().exp()))
    encode = ModelEncoder(*pretrained)
    for m, column in (("image", "image"), ("text", "caption")):
        unit = torch.nn.functional.normalize(found.embeds[m], dim=1)
        torch.testing.assert_close(unit, encode(m, pairs[column]), rtol=0, atol=1e-5)
    again = open_model(pretrained, tmp_path / "b", pairs)
    torch.testing.assert_close(again.embeds["image"], found.embeds["image"], rtol=0, atol=1e-4)


def test_embeddings_keep_the_lengths_that_the_model_gives_them(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    model, processor = pretrained
    found = open_model(pretrained, tmp_path)
    inputs = processor(text=["a red picture number 0"], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model.get_text_features(**inputs).pooler_output[0]
    torch.testing.assert_close(found.embeds["text"][0], expected, rtol=1e-4, atol=1e-5)
    assert float(found.embeds["text"].norm(dim=1).std()) > 1e-4


def test_drawn_rows_are_those_rows_and_the_same_for_every_model(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    whole = open_model(pretrained, tmp_path)
    part = open_model(pretrained, tmp_path, num_rows=5, seed=3)
    assert part.rows == tuple(draw_rows(12, 5, 3))
    assert len(set(part.rows)) == 5
    torch.testing.assert_close(part.embeds["image"], whole.embeds["image"][list(part.rows)], rtol=0, atol=1e-5)
    assert draw_rows(12, 5, 3) != draw_rows(12, 5, 4)


def test_every_caption_of_a_list_is_a_row_with_the_id_of_its_image(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    columns = {"image": "image", "text": "caption"}
    examples = ExampleDataset(make_pairs(6, many_captions=True), columns, pick={"text": "all"})
    found = open_model(pretrained, tmp_path, examples)
    assert found.ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert torch.equal(found.embeds["image"][0], found.embeds["image"][1])


def test_all_captions_of_a_dataset_or_file_are_rows_on_request(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    pairs = make_pairs(6, many_captions=True)
    pairs.to_parquet(tmp_path / "pairs.parquet")
    given = (pairs, {}), (str(tmp_path / "pairs.parquet"), {"split": "train"})
    found = [open_model(pretrained, tmp_path, data, all_captions=True, **options) for data, options in given]
    for each in found:
        assert each.ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        torch.testing.assert_close(each.embeds["text"], found[0].embeds["text"], rtol=0, atol=1e-5)
    assert open_model(pretrained, tmp_path, pairs).ids is None


def test_an_id_column_tells_what_rows_show(pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path):
    pairs = make_pairs(6).add_column("product", ["b", "b", "a", "a", "c", "c"])
    assert open_model(pretrained, tmp_path, pairs, id_column="product").ids.tolist() == [1, 1, 0, 0, 2, 2]


def test_a_parquet_file_of_one_split_gives_the_rows_that_training_holds_out_or_all(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    make_pairs(30).to_parquet(tmp_path / "pairs.parquet")
    held_out = open_model(pretrained, tmp_path, str(tmp_path / "pairs.parquet"))
    assert len(held_out.rows) == 3
    whole = open_model(pretrained, tmp_path, str(tmp_path / "pairs.parquet"), split="train", text_column="caption")
    assert len(whole.rows) == 30


# ---- Computed once ----


def test_rows_are_embedded_once(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pairs = make_pairs(12).add_column("id", [row // 2 for row in range(12)])
    first = open_model(pretrained, tmp_path, pairs, id_column="id")
    monkeypatch.setattr(ModelEncoder, "__call__", None)
    again = open_model(pretrained, tmp_path, pairs, id_column="id", batch_size=7)
    assert torch.equal(again.embeds["image"], first.embeds["image"])
    assert torch.equal(again.ids, first.ids)


@pytest.mark.parametrize("what", ["weights", "rows", "number", "columns", "processor"])
def test_rows_are_embedded_again_when_something_differs(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path, what: str
):
    model, processor = pretrained
    pairs = make_pairs(12).add_column("other", ["something else"] * 12)
    options: dict[str, Any] = {}
    open_model(pretrained, tmp_path, pairs)
    if what == "weights":
        model.text_projection.weight.data[0] += 1e-6
    elif what == "rows":
        pairs = pairs.select(range(11, -1, -1))
    elif what == "number":
        options["num_rows"] = 11
    elif what == "columns":
        options["text_column"] = "other"
    else:
        processor.image_processor.image_mean = [0.0, 0.0, 0.0]
    open_model(pretrained, tmp_path, pairs, **options)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_whole_or_not_there(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def breaks(*_: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(ModelEncoder, "__call__", breaks)
    with pytest.raises(RuntimeError, match="on purpose"):
        open_model(pretrained, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_told_and_made_again(pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path):
    first = open_model(pretrained, tmp_path).embeds["image"].clone()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="cannot be read .* made again"):
        again = open_model(pretrained, tmp_path)
    assert torch.equal(again.embeds["image"], first)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


# ---- Files and tensors ----


def test_arrays_tensors_and_lists_are_sources():
    x = clouds(rows=10)
    for given in (x, {m: z.numpy() for m, z in x.items()}, {m: z.tolist() for m, z in x.items()}):
        found = open_source(given, DatasetOptions(), ids=list("aabbccddee"))
        torch.testing.assert_close(found.embeds["text"].float(), x["text"])
        assert found.ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert open_source(found, DatasetOptions()) is found


def test_rows_of_files_are_drawn_together_with_their_ids(tmp_path: Path):
    rows = torch.arange(1.0, 21).unsqueeze(1) * torch.ones(20, 2)
    np.save(tmp_path / "images.npy", rows.numpy())
    np.save(tmp_path / "texts.npy", -rows.numpy())
    (tmp_path / "ids.txt").write_text("\n".join(f"{row:02d}" for row in range(20)))
    names = [str(tmp_path / "images.npy"), tmp_path / "texts.npy"]
    found = open_source(names, DatasetOptions(num_rows=6), ids=tmp_path / "ids.txt")
    assert found.name == "images.npy + texts.npy"
    assert found.ids.tolist() == list(found.rows)
    assert found.embeds["images"][:, 0].tolist() == [row + 1 for row in found.rows]
    assert torch.equal(found.embeds["texts"], -found.embeds["images"])


# ---- Errors ----


@pytest.mark.parametrize(
    ("source", "options", "ids", "message"),
    [
        (["a/model", "another/model"], {}, None, r"one model, or files.*A second model goes to `compare`"),
        (
            ["images.npy", "texts.npy"],
            {"dataset": "imagefolder"},
            None,
            r"`dataset` is for a model to embed.*Leave it out",
        ),
        (clouds(rows=10), {}, [1, 2], "`ids` must hold one id for each of 10 rows, but holds 2"),
        ({"image": clouds()["image"]}, {}, None, r"two or more matrices.*\{'image': \[80, 8\]\}"),
        ({"image": torch.zeros(5, 2), "text": torch.ones(5, 2)}, {}, None, "`image` holds rows of zeros"),
    ],
)
def test_what_cannot_be_a_source_is_refused(source: Any, options: dict[str, Any], ids: Any, message: str):
    with pytest.raises(ValueError, match=message):
        open_source(source, DatasetOptions(**options), ids=ids)


def test_a_model_needs_a_dataset_with_rows_and_columns(pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path):
    with pytest.raises(ValueError, match=r"no image column 'photo'.*\['image', 'caption'\]"):
        open_model(pretrained, tmp_path, image_column="photo")
    with pytest.raises(ValueError, match=r"needs two rows or more, but the dataset has 1"):
        open_model(pretrained, tmp_path, make_pairs(1))
    with pytest.raises(ValueError, match=r"must be a name or path for `load_pairs`.*but is a IterableDataset"):
        open_model(pretrained, tmp_path, make_pairs(4).to_iterable_dataset())
    with pytest.raises(ValueError, match=r"`ids` are those of given embeddings.*`id_column`"):
        open_source(pretrained, DatasetOptions(dataset=Dataset.from_dict({"a": [1]})), ids=[1])
    with pytest.raises(FileNotFoundError, match=r"`model` is the path '\./nowhere'"):
        open_source("./nowhere", DatasetOptions())


@pytest.mark.parametrize(("name", "least"), [("num_rows", 2), ("batch_size", 1)])
def test_numbers_that_are_too_small_are_refused(name: str, least: int):
    with pytest.raises(ValueError, match=rf"`{name}` must be at least {least}, but got 0"):
        DatasetOptions(**{name: 0})


# ---- Joined towers ----


def test_columns_of_any_modalities_are_embedded(tmp_path: Path):
    model = encoder({"image": "vit", "text": "bert"})
    pairs = make_pairs(12).rename_columns({"image": "photo", "caption": "alt"})
    columns = {"image": "photo", "text": "alt"}
    found = open_model((model, model.processor), tmp_path, pairs, columns=columns)
    unit = torch.nn.functional.normalize(found.embeds["text"], dim=1)
    torch.testing.assert_close(unit, model.encode_text(pairs["alt"][:]), rtol=0, atol=1e-5)
    pairs.to_parquet(tmp_path / "pairs.parquet")
    by_name = open_model(
        (model, model.processor), tmp_path, str(tmp_path / "pairs.parquet"), columns=columns, split="train"
    )
    torch.testing.assert_close(by_name.embeds["image"], found.embeds["image"], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"`columns` is for \['audio'\], but the model has the modalities"):
        open_model((model, model.processor), tmp_path, pairs, columns={"audio": "alt"})
