"""Repositories that try to lead out of their folder, or to have their code run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import CLIPModel

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments, load_adapter, load_dual_encoder
from hf_contrastive.hub.untrusted import (
    LEADING_ELSEWHERE,
    UntrustedError,
    check_adapter,
    check_model,
    check_name,
    inside,
)
from hf_contrastive.training.manifest import MANIFEST, faults_of, write_manifest

from .server import TOKEN, LoopbackHub


OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "..", ".", "", "C:\\x", "C:x", "\\\\host\\x", "..\\x", "a\0b", None, 3]
EVIL = "from pathlib import Path\nPath({file!r}).write_text('run')\nclass Evil: pass\n"


# ---- Names ----


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_refused(name: Any, tmp_path: Path):
    with pytest.raises(UntrustedError, match=r"the index names the file .* out of its folder"):
        check_name(name, "the index")
    with pytest.raises(UntrustedError):
        inside(tmp_path, name, "the index")


@pytest.mark.parametrize("name", ["x.safetensors", "a/b.json", "a/..b/c", "...", "model-00001-of-00002.safetensors"])
def test_other_names_are_paths_in_the_folder(name: str, tmp_path: Path):
    assert inside(tmp_path, name, "the index") == tmp_path / name


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "secret").write_text("s")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "shard.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(UntrustedError, match="a link to"):
        inside(tmp_path / "model", "shard.safetensors", "the index")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("model/a", "../secret"),
        ("model/a", "b"),
        ("model/a", "c/../secret"),
        ("model/a", ".."),
        ("model/sub", "../elsewhere"),
    ],
    ids=str,
)
def test_links_of_links_lead_no_further(tmp_path: Path, link: str, target: str):
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("s")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "model" / "b").symlink_to("../secret")
    (tmp_path / "model" / "c").symlink_to("../elsewhere")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(UntrustedError, match="a link to"):
        inside(tmp_path / "model", "sub/a" if "sub" in link else "a", "the index")


def test_the_cache_of_the_hub_has_links_to_its_own_files(tmp_path: Path):
    folder = tmp_path / "models--me--x" / "snapshots" / ("a" * 40)
    (folder / "last-checkpoint").mkdir(parents=True)
    (tmp_path / "models--me--x" / "blobs").mkdir()
    (tmp_path / "models--me--x" / "blobs" / "1").write_text("weights")
    (folder / "model.safetensors").symlink_to("../../blobs/1")
    (folder / "last-checkpoint" / "model.safetensors").symlink_to("../../../blobs/1")
    assert inside(folder, "model.safetensors", "the index").read_text() == "weights"
    assert inside(folder / "last-checkpoint", "model.safetensors", "the index").read_text() == "weights"
    (folder / "other").symlink_to("../../refs/main")
    with pytest.raises(UntrustedError, match="a link to"):
        inside(folder, "other", "the index")


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/hostname"])
def test_a_manifest_names_no_files_elsewhere(name: str, tmp_path: Path):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"x")
    write_manifest(folder)
    (folder / MANIFEST).write_text(json.dumps({"files": {name: {"bytes": 1, "hash": "0"}}}))
    assert "would lead out of its folder" in faults_of(folder)[0]


# ---- Models ----


@pytest.fixture
def folder(saved_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_clip, tmp_path / "clip"))


def edit(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


def test_a_sound_folder_loads(folder: Path):
    assert check_model(folder) is None
    assert isinstance(load_dual_encoder(str(folder))[0], CLIPModel)


def shard_outside(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "stolen.safetensors")
    shards = {"logit_scale": "../stolen.safetensors"}
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map=shards)


def shard_by_link(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "stolen.safetensors")
    (folder / "a.safetensors").symlink_to("../stolen.safetensors")
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map={"logit_scale": "a.safetensors"})


def pickled_shard(folder: Path) -> None:
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map={"logit_scale": "a.bin"})


def shard_of_a_variant_outside(folder: Path) -> None:
    edit(
        folder / "model.safetensors.index.fp16.json", metadata={}, weight_map={"logit_scale": "../stolen.safetensors"}
    )


def weights_outside(folder: Path) -> None:
    edit(folder / "config.json", transformers_weights="../stolen.safetensors")


def pickles_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    # Of another program, as beside the weights of open_clip.
    (folder / "open_clip_model.safetensors").write_bytes(b"")


def unknown_code(folder: Path) -> None:
    edit(folder / "config.json", model_type="evil", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    (folder / "evil.py").write_text(EVIL.format(file=str(folder.parent / "run")))


def an_adapter(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="../../somewhere", peft_type="LORA")


def no_mapping(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


TRICKS: dict[Callable[[Path], None], str] = {
    shard_outside: r"model\.safetensors\.index\.json of .* names the file '\.\./stolen",
    shard_by_link: "names the file 'a.safetensors', a link to",
    pickled_shard: "no safetensors file",
    shard_of_a_variant_outside: r"index\.fp16\.json of .* names the file '\.\./stolen",
    weights_outside: r"config\.json of .* names the file '\.\./stolen",
    pickles_alone: r"only as pytorch_model\.bin, which are pickles: reading them can run code",
    unknown_code: "of the kind 'evil', whose code is in its repository. Code from a repository is never run",
    an_adapter: r"holds an adapter of '\.\./\.\./somewhere', .* `load_adapter",
    no_mapping: r"config\.json is no mapping, but a list",
}


@pytest.mark.parametrize("trick", TRICKS, ids=[trick.__name__ for trick in TRICKS])
def test_a_folder_that_leads_elsewhere_or_runs_code_is_refused(folder: Path, trick: Callable[[Path], None]):
    trick(folder)
    with pytest.raises(UntrustedError, match=TRICKS[trick]):
        load_dual_encoder(str(folder))
    assert not (folder.parent / "run").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_code_beside_a_known_model_is_not_looked_at(folder: Path, file: str):
    classes = ("AutoModel", "AutoConfig", "AutoProcessor", "AutoImageProcessor")
    edit(folder / file, auto_map=dict.fromkeys(classes, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", None]})
    (folder / "evil.py").write_text(EVIL.format(file=str(folder.parent / "run")))
    assert isinstance(load_dual_encoder(str(folder))[0], CLIPModel)
    assert not (folder.parent / "run").exists()


@pytest.mark.parametrize("options", [{"subfolder": "../other"}, {"subfolder": "/etc"}])
def test_a_subfolder_is_in_the_folder(folder: Path, options: dict[str, str]):
    with pytest.raises(UntrustedError, match="`subfolder` names the file"):
        load_dual_encoder(str(folder), **options)


def test_a_revision_is_no_path():
    with pytest.raises(UntrustedError, match="`revision` names the file"):
        load_dual_encoder("tester/clip", revision="../../x")


# ---- Adapters ----


@pytest.mark.parametrize("field", LEADING_ELSEWHERE)
def test_an_adapter_that_names_more_than_weights_is_refused(clip: CLIPModel, tmp_path: Path, field: str):
    pytest.importorskip("peft", reason="peft is not installed")
    edit(tmp_path / "adapter_config.json", peft_type="LORA", **{field: {"trust_remote_code": True}})
    with pytest.raises(UntrustedError, match=f"has '{field}' in its configuration"):
        load_adapter(clip, tmp_path)


def test_an_adapter_of_pickles_is_refused(tmp_path: Path):
    edit(tmp_path / "adapter_config.json", peft_type="LORA")
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(UntrustedError, match=r"adapter_model\.bin, which are pickles"):
        check_adapter(tmp_path)


# ---- Repositories ----


LOAD = """
import json
from hf_contrastive import load_dual_encoder

def said(name):
    try:
        return type(load_dual_encoder(name)[0]).__name__
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

print(json.dumps({{name: said(name) for name in {names!r}}}))
"""


@pytest.fixture(scope="module")
def said(module_hub: LoopbackHub, saved_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    sound = {path.name: path.read_bytes() for path in saved_clip.iterdir()}
    run = EVIL.format(file=str(home / "run")).encode()
    config = json.loads(sound["config.json"]) | {"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil"}}
    index = {"metadata": {}, "weight_map": {"logit_scale": "../../../stolen.safetensors"}}
    module_hub.publish("evil/names", sound | {"../../../../stolen.json": b"{}"})
    module_hub.publish("evil/code", sound | {"config.json": json.dumps(config).encode(), "evil.py": run})
    module_hub.publish("evil/index", sound | {"model.safetensors.index.json": json.dumps(index).encode()})
    module_hub.publish(
        "evil/pickles", {k: v for k, v in sound.items() if "safetensors" not in k} | {"pytorch_model.bin": b"x"}
    )
    module_hub.publish("evil/unlisted", sound)
    info = "/api/models/evil/unlisted"
    module_hub.fail(
        "GET",
        info,
        200,
        times=9,
        headers={"Content-Type": "application/json"},
        body={"id": "evil/unlisted", "sha": "../../x", "siblings": []},
    )
    module_hub.publish("tester/sound", sound, private=True)
    names = ("evil/names", "evil/code", "evil/index", "evil/pickles", "evil/unlisted", "tester/sound", "tester/none")
    process = module_hub.run(LOAD.format(names=names), home / "hf", token=TOKEN)
    assert process.returncode == 0, process.stderr
    assert sorted(os.listdir(home)) == ["hf"], "nothing was written beside the cache, and no code was run"
    result: dict[str, str] = json.loads(process.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evil/names", "UntrustedError: The Hub, of 'evil/names', names the file '../../../../stolen.json'"),
        ("evil/code", "UntrustedError: The model 'evil/code' is of the kind 'evil'"),
        ("evil/index", "UntrustedError: model.safetensors.index.json of 'evil/index' names the file"),
        ("evil/pickles", "UntrustedError: 'evil/pickles' holds its weights only as pytorch_model.bin"),
        ("evil/unlisted", "UntrustedError: The Hub names '../../x' as the commit"),
        ("tester/sound", "CLIPModel"),
        ("tester/none", "RepositoryNotFoundError: 404"),
    ],
)
def test_a_repository_is_checked_before_it_is_loaded(said: dict[str, str], name: str, expected: str):
    assert said[name].startswith(expected)


def test_of_what_is_refused_no_weights_are_downloaded(said: dict[str, str], module_hub: LoopbackHub):
    assert not [path for method, path in module_hub.requests if method == "GET" and path.startswith("/lfs/evil")]


# ---- Checkpoints ----


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.file,)


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"]
)
def test_a_checkpoint_of_others_runs_nothing_when_it_is_resumed(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, name: str
):
    def trainer(max_steps: int) -> ContrastiveTrainer:
        common = {
            "use_cpu": True,
            "loss": "clip",
            "save_steps": 1,
            "per_device_train_batch_size": 8,
            "report_to": "none",
        }
        args = ContrastiveTrainingArguments(str(tmp_path / "run"), max_steps=max_steps, disable_tqdm=True, **common)
        return ContrastiveTrainer(clip, args, train_dataset=dataset)

    trainer(1).train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    torch.save(Evil(tmp_path / "run" / "evil"), checkpoint / name)
    write_manifest(checkpoint)
    if name in ("training_args.bin", "pytorch_model.bin"):
        trainer(2).train(resume_from_checkpoint=str(checkpoint))
    else:
        with pytest.raises(UnpicklingError, match="Weights only load failed"):
            trainer(2).train(resume_from_checkpoint=str(checkpoint))
    assert not (tmp_path / "run" / "evil").exists()
    with pytest.raises(UnpicklingError):
        torch.load(checkpoint / name, weights_only=True)


# ---- Processors ----


def test_a_tokenizer_reads_no_files_from_elsewhere(folder: Path):
    """Else fine-tuning a stranger's model could push what is on this disk."""
    secret = folder.parent / "secret.json"
    secret.write_text(json.dumps({"my-secret-word": 0}))
    names = ("vocab_file", "tokenizer_file", "merges_file", "spm_file", "special_tokens_map_file", "added_tokens_file")
    edit(folder / "tokenizer_config.json", **dict.fromkeys(names, str(secret)), init_inputs=[str(secret)])
    processor: Any
    try:
        processor = load_dual_encoder(str(folder))[1]
    except (TypeError, ValueError):
        return
    processor.save_pretrained(folder.parent / "pushed")
    assert not [
        p for p in (folder.parent / "pushed").rglob("*") if p.is_file() and b"my-secret-word" in p.read_bytes()
    ]


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_code_of_a_part_is_never_run(folder: Path, part: str):
    nested = {"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}}
    edit(folder / "config.json", model_type="vision-text-dual-encoder", **{part: nested})
    (folder / "evil.py").write_text(EVIL.format(file=str(folder.parent / "run")))
    with pytest.raises((ValueError, KeyError)):
        load_dual_encoder(str(folder))
    assert not (folder.parent / "run").exists()
