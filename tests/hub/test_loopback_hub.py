"""The clients that people use, against the loopback Hub: each process acts once, then the tests look at what it did."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .server import LoopbackHub


Report = dict[str, Any]

METRIC = """\
import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"agreement": sum(map(int.__eq__, predictions, references)) / len(references)}
"""


def report_of(hub: LoopbackHub, home: Path, act: Callable[..., Report], *arguments: object) -> Report:
    """Run the source of `act`, which holds its own imports, in a process whose environment is there before them."""
    sources = (inspect.getsource(function) for function in (outcome, act))
    call = f"import json; print(json.dumps({act.__name__}(*{arguments!r})))"
    process = hub.run("\n".join(["from __future__ import annotations", *sources, call]), home)
    assert process.returncode == 0, process.stderr
    report: Report = json.loads(process.stdout.splitlines()[-1])
    return report


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return "done"


def share_a_model() -> Report:
    import tempfile
    from pathlib import Path

    import torch
    from huggingface_hub import HfApi, ModelCard
    from transformers import CLIPConfig, CLIPModel

    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = layers | {"vocab_size": 99, "bos_token_id": 0, "eos_token_id": 98, "pad_token_id": 1}
    image = layers | {"image_size": 8, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=12))
    folder, api = Path(tempfile.mkdtemp()), HfApi()
    model.save_pretrained(folder)
    ModelCard("---\nlibrary_name: transformers\n---\n# Tiny CLIP\n").save(folder / "README.md")

    api.create_repo("tester/clip")
    first, second = (api.upload_folder(repo_id="tester/clip", folder_path=folder).oid for _ in range(2))
    copy = CLIPModel.from_pretrained("tester/clip").state_dict()
    return {
        "weights": {name: torch.equal(weight, copy[name]) for name, weight in model.state_dict().items()},
        "commits": [first, second],
        "library": api.model_info("tester/clip").library_name,
    }


@pytest.fixture(scope="module")
def shared_model(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report_of(module_hub, tmp_path_factory.mktemp("home"), share_a_model)


def test_a_model_comes_back_with_equal_weights(shared_model: Report, module_hub: LoopbackHub) -> None:
    assert len(shared_model["weights"]) > 20
    assert all(shared_model["weights"].values())
    downloads = [path for method, path in module_hub.requests if method == "GET" and "/lfs/tester/clip/" in path]
    assert len(downloads) == 1


def test_the_hub_holds_what_was_uploaded(shared_model: Report, module_hub: LoopbackHub) -> None:
    files = module_hub.files("tester/clip")
    assert files.keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert b"# Tiny CLIP" in files["README.md"]
    assert shared_model["library"] == "transformers"


def test_uploading_the_same_folder_twice_makes_one_commit(shared_model: Report, module_hub: LoopbackHub) -> None:
    assert len(set(shared_model["commits"])) == 1
    assert len(module_hub.commits("tester/clip")) == 2, "the initial commit and the upload"


def share_and_measure() -> Report:
    import evaluate
    from datasets import Dataset, load_dataset

    Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).push_to_hub("tester/pairs", private=True)
    metric = evaluate.load("tester/agreement")
    return {
        "rows": load_dataset("tester/pairs", split="train").to_list(),
        "result": metric.compute(predictions=[1, 0, 1, 1], references=[1, 0, 0, 1]),
    }


@pytest.fixture(scope="module")
def measured(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Report:
    module_hub.publish("tester/agreement", {"agreement.py": METRIC.encode()}, repo_type="space", private=True)
    return report_of(module_hub, tmp_path_factory.mktemp("home"), share_and_measure)


def test_a_private_dataset_comes_back(measured: Report, module_hub: LoopbackHub) -> None:
    assert measured["rows"] == [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    assert "data/train-00000-of-00001.parquet" in module_hub.files("tester/pairs", repo_type="dataset")


def test_a_metric_is_loaded_from_its_private_space(measured: Report) -> None:
    assert measured["result"] == {"agreement": 0.75}


UPLOADS = ("plan-fails", "transfer-is-cut", "transfer-is-forbidden", "commit-fails", "commit-is-cut", "answer-is-lost")
DOWNLOADS = ("head-fails", "head-fails-when-cached", "storage-fails")


def meet_refusals_and_faults(uploads: tuple[str, ...], downloads: tuple[str, ...]) -> Report:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    api = HfApi()

    def upload(repo: str) -> str:
        content = f"\0 weights of {repo}".encode()
        return outcome(
            lambda: api.upload_file(
                path_or_fileobj=content, path_in_repo="new.bin", repo_id=f"tester/{repo}", commit_message="upload"
            )
        )

    def download(repo: str) -> str:
        return outcome(lambda: hf_hub_download(f"tester/{repo}", "model.bin"))

    snapshot_download("tester/head-fails-when-cached")
    return {
        "private repo, owner": outcome(lambda: api.model_info("tester/private")),
        "private repo, guest": outcome(lambda: HfApi(token=False).model_info("tester/private")),
        "public repo, wrong token": outcome(lambda: HfApi(token="hf_wrong").model_info("tester/head-fails")),
        "creation fails": outcome(lambda: api.create_repo("tester/never")),
        **{repo: upload(repo) for repo in uploads},
        **{repo: download(repo) for repo in downloads},
        "answer-is-lost, again": upload("answer-is-lost"),
    }


@pytest.fixture(scope="module")
def outcomes(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Report:
    module_hub.publish("tester/private", {}, private=True)
    for repo in UPLOADS + DOWNLOADS:
        module_hub.publish(f"tester/{repo}", {"model.bin": f"\0 {repo}".encode()})
    module_hub.fail("POST", "plan-fails/preupload", status=503)
    module_hub.cut("PUT", "/lfs/tester/transfer-is-cut")
    module_hub.fail("PUT", "/lfs/tester/transfer-is-forbidden", status=403)
    module_hub.fail("POST", "commit-fails/commit")
    module_hub.cut("POST", "commit-is-cut/commit")
    module_hub.lose_answer("answer-is-lost/commit")
    module_hub.fail("POST", "/api/repos/create")
    module_hub.fail("HEAD", "head-fails/resolve", status=503)
    # A snapshot asks by commit, so that the first to ask by branch finds the file in the cache.
    module_hub.fail("HEAD", "head-fails-when-cached/resolve/main", status=503)
    module_hub.fail("GET", "/lfs/tester/storage-fails")
    return report_of(module_hub, tmp_path_factory.mktemp("home"), meet_refusals_and_faults, UPLOADS, DOWNLOADS)


def test_every_fault_was_met(outcomes: Report, module_hub: LoopbackHub) -> None:
    assert module_hub.faults == []


@pytest.mark.parametrize(
    ("visit", "expected"),
    [
        ("private repo, owner", "done"),
        ("private repo, guest", "RepositoryNotFoundError"),
        ("public repo, wrong token", "HfHubHTTPError"),
    ],
)
def test_access_follows_the_token(outcomes: Report, visit: str, expected: str) -> None:
    assert outcomes[visit] == expected


@pytest.mark.parametrize(
    ("repo", "method", "step"),
    [("plan-fails", "POST", "plan-fails/preupload/"), ("transfer-is-cut", "PUT", "/lfs/tester/transfer-is-cut/")],
)
def test_a_failed_transfer_is_tried_again(
    outcomes: Report, module_hub: LoopbackHub, repo: str, method: str, step: str
) -> None:
    assert outcomes[repo] == "done"
    assert module_hub.commits(f"tester/{repo}")[0] == "upload"
    assert len([path for verb, path in module_hub.requests if verb == method and step in path]) == 2


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("transfer-is-forbidden", "RuntimeError"),
        ("commit-fails", "HfHubHTTPError"),
        ("commit-is-cut", "RemoteProtocolError"),
    ],
)
def test_a_failed_commit_is_an_error(outcomes: Report, module_hub: LoopbackHub, repo: str, expected: str) -> None:
    assert outcomes[repo] == expected
    assert "upload" not in module_hub.commits(f"tester/{repo}")


def test_a_failed_creation_is_an_error(outcomes: Report) -> None:
    assert outcomes["creation fails"] == "HfHubHTTPError"


def test_a_commit_with_a_lost_answer_is_an_error_but_made_once(outcomes: Report, module_hub: LoopbackHub) -> None:
    assert outcomes["answer-is-lost"] == "RemoteProtocolError"
    assert outcomes["answer-is-lost, again"] == "done"
    assert module_hub.commits("tester/answer-is-lost").count("upload") == 1


@pytest.mark.parametrize(
    ("repo", "expected"),
    [("head-fails", "done"), ("head-fails-when-cached", "done"), ("storage-fails", "HfHubHTTPError")],
)
def test_a_download_survives_failed_metadata_only(outcomes: Report, repo: str, expected: str) -> None:
    assert outcomes[repo] == expected
