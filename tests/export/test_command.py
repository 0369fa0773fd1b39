"""`hf-contrastive export`."""

import shlex
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModel, CLIPModel

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.command import main
from hf_contrastive.export import DifferentExportError
from tests.export.cases import encoder


def test_a_joined_encoder_becomes_a_plain_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = encoder({"image": "clip_vision", "text": "clip_text"})
    model.save_pretrained(tmp_path / "joined")
    model.processor.save_pretrained(tmp_path / "joined")
    main(["export", str(tmp_path / "joined"), str(tmp_path / "plain"), "--name", "me/plain"])
    assert "Written as transformers" in capsys.readouterr().out
    assert type(AutoModel.from_pretrained(tmp_path / "plain")).__name__ == "CLIPModel"
    assert 'from_pretrained("me/plain")' in (tmp_path / "plain" / "README.md").read_text()


def test_what_cannot_be_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = encoder({"image": "vit", "text": "bert"})
    model.save_pretrained(tmp_path / "joined")
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(tmp_path / "joined"), str(tmp_path / "plain"), "--format", "transformers"])
    assert stopped.value.code == 2
    assert "the pooling of 'text' is 'mean'" in capsys.readouterr().err
    main(["export", str(tmp_path / "joined"), str(tmp_path / "plain")])
    assert "It needs hf-contrastive" in capsys.readouterr().out


def test_two_text_towers_are_told_with_the_commands_that_write_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    encoder({"query": "bert", "document": "mpnet"}).save_pretrained("joined")
    main(["export", "joined", "plain"])
    found = [shlex.split(line)[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  hf-")]
    assert found[1:] == [
        ["export", "joined", f"plain_{name}", "--format", "sentence-transformers", "--modalities", name]
        for name in ("document", "query")
    ]
    assert found[0] == ["export", "joined", "plain_onnx", "--format", "onnx"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["export", *arguments])
    assert stopped.value.code == 2
    return str(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/model", "out"], "'/nowhere/model' is neither a folder that is there nor a Hub id"),
        (["x", "out", "--base", "no such folder"], "'no such folder' is neither"),
        (["x", "out", "--format", "tensorflow"], "invalid choice: 'tensorflow'"),
        (["x", "out", "--name", "your name"], "`--name` must be a Hub id such as your-name/your-encoder"),
        (["x", "out", "--merge"], "whose model `--base` names"),
        (["x", "full"], "'full' is not empty"),
        (["x", "full", "--overwrite"], "holds no model"),
        (["x", "full/file"], "is something else"),
        (["x"], "required: FOLDER"),
    ],
)
def test_nonsense_is_told_before_a_model_is_loaded(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert message in refused(arguments, capsys)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_what_stops_it_is_one_line(
    saved_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "out")
    assert "neither a folder that is there" in refused([str(saved_clip / "config.json"), out], capsys)
    assert "is no adapter, so it has no `--base`" in refused([str(saved_clip), out, "--base", str(saved_clip)], capsys)
    assert "holds the trained model itself" in refused([str(saved_clip), str(saved_clip), "--overwrite"], capsys)

    def differ(*args: object) -> None:
        raise DifferentExportError("They differ.")

    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("hf_contrastive.export.writer.check_same", differ)
    assert refused([str(saved_clip), out], capsys).endswith("hf-contrastive: They differ.\n")
    monkeypatch.setattr(CLIPModel, "save_pretrained", full)
    assert "No space left on device. Nothing was written." in refused([str(saved_clip), out], capsys)
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".out*"))


def test_unknown_modalities_and_adapters_without_a_base_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    encoder({"image": "vit", "text": "bert"}).save_pretrained(tmp_path / "joined")
    assert "video" in refused([str(tmp_path / "joined"), str(tmp_path / "out"), "--modalities", "video"], capsys)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    assert "is an adapter: `--base` must name" in refused([str(tmp_path / "lora"), str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


def test_folders_with_spaces_and_in_the_home_are_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path))
    encoder({"image": "clip_vision", "text": "clip_text"}).save_pretrained(tmp_path / "my encoder")
    for _ in range(2):
        main(["export", "~/my encoder", "~/a plain one", "--overwrite", "--name", "me/plain"])
    out = capsys.readouterr().out
    assert f"Written as transformers: {tmp_path}/a plain one\n" in out
    assert f"hf-contrastive push '{tmp_path}/a plain one' me/plain" in out
    assert type(AutoModel.from_pretrained(tmp_path / "a plain one")).__name__ == "CLIPModel"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a plain one", "my encoder"]


def test_a_plain_model_is_written_with_files_for_other_libraries(saved_clip: Path, tmp_path: Path):
    main(["export", str(saved_clip), str(tmp_path / "out")])
    assert (tmp_path / "out" / "modules.json").is_file()
    assert type(AutoModel.from_pretrained(tmp_path / "out")).__name__ == "CLIPModel"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_is_merged_into_its_base(saved_clip: Path, tmp_path: Path):
    peft = pytest.importorskip("peft")
    args = ContrastiveTrainingArguments(str(tmp_path / "run"), use_cpu=True)
    lora = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    ContrastiveTrainer(CLIPModel.from_pretrained(saved_clip), args, peft_config=lora).save_model()
    main(["export", str(tmp_path / "run"), str(tmp_path / "merged"), "--base", str(saved_clip), "--merge"])
    merged, base = (CLIPModel.from_pretrained(folder) for folder in (tmp_path / "merged", saved_clip))
    assert not torch.equal(
        merged.text_model.encoder.layers[0].self_attn.q_proj.weight,
        base.text_model.encoder.layers[0].self_attn.q_proj.weight,
    )
