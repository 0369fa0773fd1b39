"""What people do with what was shared: revisions, private repositories, cut downloads, data, other libraries."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from hf_contrastive import load_dual_encoder
from tests.conftest import make_pairs

from .server import USER, LoopbackHub


CLIENT = """
import json, os, sys
import torch
from huggingface_hub import HfApi, hf_hub_download
from transformers import AutoModel
from hf_contrastive import load_dual_encoder, load_pairs
from hf_contrastive.hub import failures

failures.DELAYS = (0.01,)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

def outcome(act):
    try:
        return act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def embed(name, **options):
    model, processor = load_dual_encoder(name, **options)
    inputs = processor(text=["a red picture"], return_tensors="pt", truncation=True)
    with torch.no_grad():
        return model.eval().get_text_features(**inputs).pooler_output.tolist()

api, report = HfApi(), {}
report["private"] = embed("tester/clip")
report["auto"] = type(AutoModel.from_pretrained("tester/clip")).__name__
report["guest"] = outcome(lambda: embed("tester/clip", token=False, cache_dir="fresh-guest"))
report["wrong token"] = outcome(lambda: embed("tester/clip", token="hf_wrong_token_here", cache_dir="fresh-wrong"))
report["first"] = embed("tester/versions", revision="v1")
report["main"] = embed("tester/versions")
report["commit"] = embed("tester/versions", revision=api.list_repo_commits("tester/versions")[1].commit_id)
report["no revision"] = outcome(lambda: embed("tester/versions", revision="v9"))
report["cut"] = embed("tester/cut", cache_dir="fresh-cut")
report["busy"] = embed("tester/busy", cache_dir="fresh-busy")
report["size"] = os.path.getsize(hf_hub_download("tester/large", "big.safetensors"))
pairs = load_pairs("tester/pairs", validation_split=None)
report["pairs"] = len(pairs.train)
report["script"] = outcome(lambda: len(load_pairs("tester/script").train))
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def hub_with_models(module_hub: LoopbackHub, saved_clip: Path) -> LoopbackHub:
    files = {path.name: path.read_bytes() for path in saved_clip.iterdir()}
    model = AutoModel.from_pretrained(saved_clip)
    with torch.no_grad():
        model.text_projection.weight.mul_(2.0).add_(0.1)
    model.save_pretrained(saved_clip.parent / "changed")
    changed = files | {"model.safetensors": (saved_clip.parent / "changed" / "model.safetensors").read_bytes()}
    module_hub.publish("tester/clip", files, private=True)
    module_hub.publish("tester/versions", files)
    repo = module_hub._store.repos["model", "tester/versions"]
    repo.tags["v1"] = repo.branches["main"]
    module_hub.publish("tester/versions", changed)
    # The same weights in all repositories are one file of the storage: names tell them apart.
    for name in ("cut", "busy"):
        module_hub.publish(f"tester/{name}", files)
    module_hub.cut_body("/lfs/tester/cut", after=1000, times=2)
    module_hub.fail("GET", "/lfs/tester/busy", 429, times=1)
    module_hub.publish("tester/large", {"big.safetensors": bytes(12 << 20)})
    module_hub.cut_body("/lfs/tester/large", after=11 << 20)
    parquet = io.BytesIO()
    make_pairs(24).to_parquet(parquet)
    module_hub.publish("tester/pairs", {"data/train-00000-of-00001.parquet": parquet.getvalue()}, repo_type="dataset")
    script = b"from pathlib import Path\nPath('run').write_text('run')\n"
    module_hub.publish("tester/script", {"script.py": script}, repo_type="dataset")
    return module_hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def report(hub_with_models: LoopbackHub, home: Path) -> dict[str, Any]:
    code = f"import os; os.chdir({str(home)!r})\n{CLIENT}"
    process = hub_with_models.run(code, home)
    assert process.returncode == 0, process.stderr
    assert "hf_wrong_token_here" not in process.stdout + process.stderr
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def expected(saved_clip: Path) -> torch.Tensor:
    model, processor = load_dual_encoder(str(saved_clip))
    inputs = processor(text=["a red picture"], return_tensors="pt", truncation=True)
    with torch.no_grad():
        return model.eval().get_text_features(**inputs).pooler_output


@pytest.mark.parametrize("name", ["private", "first", "commit", "cut", "busy"])
def test_embeddings_are_those_of_the_folder(report: dict[str, Any], expected: torch.Tensor, name: str):
    assert torch.equal(torch.tensor(report[name]), expected)


def test_a_branch_has_its_latest_model(report: dict[str, Any], expected: torch.Tensor):
    assert not torch.allclose(torch.tensor(report["main"]), expected, atol=1e-3)


def test_a_private_model_is_for_its_owner(report: dict[str, Any]):
    assert report["auto"] == "CLIPModel"
    assert report["guest"].startswith("RepositoryNotFoundError: 401")
    assert "Invalid credentials" in report["wrong token"]


def test_a_revision_that_is_not_there_is_named(report: dict[str, Any]):
    assert report["no revision"].startswith("RevisionNotFoundError: 404")


def test_a_cut_download_goes_on_where_it_stopped(report: dict[str, Any], hub_with_models: LoopbackHub):
    assert report["size"] == 12 << 20
    assert "bytes=10485760-" in hub_with_models.ranges


def test_pairs_are_read_from_the_hub(report: dict[str, Any]):
    assert report["pairs"] > 0


def test_a_dataset_that_is_a_script_is_not_run(report: dict[str, Any], home: Path):
    assert "script" in report["script"].lower()
    assert not (home / "run").exists()


SENTENCES = """
import json
from pathlib import Path
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizer
from tests.conftest import LAYERS, TEXT

folder = "sentences"
BertModel(BertConfig(**LAYERS, **TEXT)).save_pretrained(folder)
vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "star"]
Path(folder, "vocab.txt").write_text("\\n".join(vocabulary))
BertTokenizer(f"{folder}/vocab.txt").save_pretrained(folder)
transformer = Transformer(folder, max_seq_length=8)
model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_word_embedding_dimension())], device="cpu")
model.push_to_hub("tester/sentences", private=True)
copy = SentenceTransformer("tester/sentences", device="cpu")
texts = ["red star", "blue"]
print(json.dumps(float(abs(model.encode(texts) - copy.encode(texts)).max())))
"""


def test_a_sentence_transformer_comes_back(module_hub: LoopbackHub, tmp_path: Path):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    process = module_hub.run(f"import os; os.chdir({str(tmp_path)!r})\n{SENTENCES}", tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == 0
    assert module_hub._store.repos["model", f"{USER}/sentences"].is_private
