import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import DatasetDict, Image

from hf_contrastive.data.scenes import build, load_scenes


SIZES = {"train": 60, "validation": 10, "test": 30}
FEW = {"train": 6, "test": 6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("scenes")
    load_scenes(cache, sizes=SIZES)
    return cache


def test_rows_hold_an_image_three_captions_and_the_facts(cache: Path) -> None:
    scenes = load_scenes(cache, sizes=SIZES)
    assert {split: len(rows) for split, rows in scenes.items()} == SIZES
    row = scenes["train"][0]
    assert (row["image"].format, row["image"].mode, row["image"].size) == ("PNG", "RGB", (64, 64))
    assert len(set(row["captions"])) == 3
    assert {"background", "things", "family", "novel", "stated"} <= json.loads(row["scene"]).keys()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (_rows(load_scenes(tmp_path / name, sizes=FEW)) for name in ("first", "second"))
    assert first == second


def test_another_seed_gives_other_scenes(tmp_path: Path) -> None:
    one, other = _rows(load_scenes(tmp_path, sizes=FEW)), _rows(load_scenes(tmp_path, seed=1, sizes=FEW))
    assert one["test"]["scene"] != other["test"]["scene"]
    assert one["test"]["image"] != other["test"]["image"]


def test_the_size_of_a_split_does_not_change_the_others(cache: Path, tmp_path: Path) -> None:
    other = load_scenes(tmp_path, sizes={"train": 10, "test": SIZES["test"]})
    assert _rows(other)["test"] == _rows(load_scenes(cache, sizes=SIZES))["test"]


def test_the_second_start_renders_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(build, "draw_scene")
    assert len(load_scenes(cache, sizes=dict(reversed(SIZES.items())))["train"]) == SIZES["train"]


def test_an_interrupted_build_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_scenes(tmp_path, sizes=FEW)
    (partial,) = tmp_path.glob("*/*.partial")
    next(partial.glob("train/*.arrow")).write_bytes(b"half of it")
    assert load_scenes(tmp_path, sizes=FEW)["train"][0]["captions"]
    assert not partial.exists()


def test_builders_that_start_at_once_share_one_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(build, "draw_scene", lambda scene, draw=build.draw_scene: drawn.append(scene) or draw(scene))
    with ThreadPoolExecutor(4) as pool:
        first, *others = [_rows(scenes) for scenes in pool.map(lambda _: load_scenes(tmp_path, sizes=FEW), range(4))]
    assert all(other == first for other in others)
    assert len(drawn) == sum(FEW.values())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "at least one of"),
        ({"train": 0}, r"sizes\['train'\]=0 must be at least 1"),
        ({"dev": 5}, "unknown split 'dev'; allowed are"),
    ],
)
def test_wrong_sizes_are_named(tmp_path: Path, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scenes(tmp_path, sizes=sizes)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _rows(scenes: DatasetDict) -> dict[str, dict[str, list[object]]]:
    return {split: rows.cast_column("image", Image(decode=False)).to_dict() for split, rows in scenes.items()}
