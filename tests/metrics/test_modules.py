"""The `evaluate` modules: the functional core behind the interface of `evaluate`."""

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import hf_contrastive
from hf_contrastive.functional import alignment, modality_gap, retrieval_ranks, uniformity, uniformity_floor
from hf_contrastive.metrics import list_metrics, load_metric
from hf_contrastive.metrics import loading as metrics_loading


FOLDER = Path(metrics_loading.__file__).parent
GENERATOR = torch.Generator().manual_seed(0)
X, Y = (torch.randn(12, 5, generator=GENERATOR) + shift for shift in (0.0, 0.3))
NAMES = ["alignment", "modality_gap", "retrieval", "uniformity"]


def expected(name: str, x: Tensor, y: Tensor) -> dict[str, float]:
    """What the functional core says."""
    gap = modality_gap(x, y)
    there, back = retrieval_ranks(x, y), retrieval_ranks(y, x)
    even, floor = uniformity(x), uniformity_floor(5)
    ranks = {f"{side}recall@{k}": r.recall(k) for side, r in (("", there), ("reverse_", back)) for k in (1, 5, 10)}
    values: dict[str, dict[str, Any]] = {
        "alignment": {"alignment": alignment(x, y)},
        "uniformity": {"uniformity": even, "uniformity_floor": floor, "uniformity_ratio": even / floor},
        "modality_gap": {
            "modality_gap": gap.gap,
            "modality_gap_floor": gap.floor,
            "modality_gap_ratio": gap.gap / gap.floor,
        },
        "retrieval": ranks | {"median_rank": there.median(), "reverse_median_rank": back.median()},
    }
    return {key: float(value) for key, value in values[name].items()}


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    """Each module once: the first import of `evaluate` takes seconds."""
    return {name: load_metric(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def module(modules: dict[str, Any], name: str) -> Any:
    return modules[name]


def sides(name: str, x: Any, y: Any) -> dict[str, Any]:
    return {"predictions": x} if name == "uniformity" else {"predictions": x, "references": y}


# ---- Numbers ----


@pytest.mark.parametrize(
    "kind", [Tensor.clone, Tensor.numpy, Tensor.tolist, Tensor.double], ids=["torch", "numpy", "list", "double"]
)
def test_equals_the_functional_core(module: Any, name: str, kind: Callable[[Tensor], Any]):
    found = module.compute(**sides(name, kind(X), kind(Y)))
    assert all(type(value) is float for value in found.values())
    assert found == pytest.approx(expected(name, X, Y), rel=1e-5)


def test_a_tensor_that_records_gradients_is_taken(module: Any, name: str):
    found = module.compute(**sides(name, X.clone().requires_grad_(), Y.clone().requires_grad_()))
    assert found == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_uneven_batches_equal_one_call(module: Any, name: str):
    for rows in (slice(0, 5), slice(5, 6), slice(6, 10)):
        module.add_batch(**sides(name, X[rows], Y[rows]))
    found = module.compute(**sides(name, X[10:], Y[10:]))
    assert found == pytest.approx(module.compute(**sides(name, X, Y)), rel=1e-6)


def test_single_rows_equal_one_call(module: Any, name: str):
    for x, y in zip(X, Y, strict=True):
        module.add(**({"prediction": x} if name == "uniformity" else {"prediction": x, "reference": y}))
    assert module.compute() == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_options_reach_the_functional_core(modules: dict[str, Any]):
    both = {"predictions": X, "references": Y}
    assert modules["alignment"].compute(**both, alpha=1.0, normalize=False)["alignment"] == pytest.approx(
        alignment(X, Y, alpha=1.0, normalize=False).item(), rel=1e-6
    )
    assert modules["uniformity"].compute(predictions=X, t=3.0)["uniformity"] == pytest.approx(
        uniformity(X, t=3.0).item(), rel=1e-6
    )
    assert modules["modality_gap"].compute(**both, normalize=False)["modality_gap"] == pytest.approx(
        modality_gap(X, Y, normalize=False).gap.item(), rel=1e-6
    )


def test_the_gap_takes_unequal_numbers_of_rows(modules: dict[str, Any]):
    module, gap = modules["modality_gap"], modality_gap(X, Y[:7])
    module.add_batch(predictions=X[:5], references=Y[:6])
    found = module.compute(predictions=X[5:], references=Y[6:7])
    assert found["modality_gap"] == pytest.approx(gap.gap.item(), rel=1e-6)
    assert found["modality_gap_floor"] == pytest.approx(gap.floor.item(), rel=1e-6)


def test_retrieval_takes_several_keys_for_one_query(modules: dict[str, Any]):
    queries, keys = torch.eye(2), torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0], [1.0, 0.3]])
    found = modules["retrieval"].compute(
        predictions=queries, references=keys, query_ids=[7, 9], key_ids=[7, 7, 9, 9], ks=[1]
    )
    # Each query finds a caption of its own first; the last caption, of item 9, is closer to query 7.
    assert (found["recall@1"], found["reverse_recall@1"]) == (1.0, 0.75)


def test_modules_can_be_combined(modules: dict[str, Any]):
    import evaluate

    combined = evaluate.combine(list(modules.values()))
    found = combined.compute(predictions=X, references=Y)
    assert found == pytest.approx({k: v for name in NAMES for k, v in expected(name, X, Y).items()}, rel=1e-6)


def test_modules_can_be_combined_over_batches(modules: dict[str, Any]):
    import evaluate

    combined = evaluate.combine(list(modules.values()))
    combined.add_batch(predictions=X[:5], references=Y[:5])
    found = combined.compute(predictions=X[5:], references=Y[5:])
    assert found == pytest.approx({k: v for name in NAMES for k, v in expected(name, X, Y).items()}, rel=1e-6)


# ---- State ----


def test_compute_forgets_earlier_batches(module: Any, name: str):
    module.add_batch(**sides(name, X + 1, Y - 1))
    module.compute()
    assert module.compute(**sides(name, X, Y)) == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_compute_forgets_earlier_batches_after_an_error(module: Any, name: str):
    module.add_batch(**sides(name, X, Y))
    module.add_batch(**sides(name, X[:, :2], Y[:, :2]))
    with pytest.raises(ValueError, match=r"`predictions` must have one width in all batches, but got \[2, 5\]"):
        module.compute()
    assert module.compute(**sides(name, X, Y)) == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_a_refused_batch_leaves_nothing_behind(module: Any, name: str):
    module.add_batch(**sides(name, X[:6], Y[:6]))
    wrong = sides(name, X[0], Y[0]) if name == "uniformity" else {"predictions": X, "references": Y[0]}
    with pytest.raises(ValueError, match=r"must have shape \(rows, width\)"):
        module.add_batch(**wrong)
    found = module.compute(**sides(name, X[6:], Y[6:]))
    assert found == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_compute_forgets_earlier_batches_when_its_own_is_refused():
    module = load_metric("modality_gap")
    module.add_batch(predictions=X + 1, references=Y - 1)
    with pytest.raises(ValueError, match=r"must have shape \(rows, width\)"):
        module.compute(predictions=X[0], references=Y)
    found = module.compute(predictions=X, references=Y)
    assert found == pytest.approx(expected("modality_gap", X, Y), rel=1e-6)


@pytest.mark.parametrize("kind", [Tensor.detach, Tensor.numpy], ids=["torch", "numpy"])
def test_kept_batches_do_not_change_with_the_array_they_came_from(kind: Callable[[Tensor], Any]):
    """Loops often fill one buffer again and again."""
    buffer, module = X.clone(), load_metric("uniformity")
    module.add_batch(predictions=kind(buffer))
    buffer.fill_(1)
    assert module.compute() == pytest.approx(expected("uniformity", X, Y), rel=1e-6)


def test_two_modules_of_one_kind_do_not_share_batches(modules: dict[str, Any]):
    modules["alignment"].add_batch(predictions=X + 1, references=Y)
    assert load_metric("alignment").compute(predictions=X, references=Y)["alignment"] == pytest.approx(
        alignment(X, Y).item(), rel=1e-6
    )
    modules["alignment"].compute()


# ---- Errors ----


def test_computing_nothing_is_refused(module: Any, name: str):
    with pytest.raises(ValueError, match=f"The module '{name}' has no embeddings yet: pass predictions"):
        module.compute()


def test_an_unknown_input_is_refused(module: Any, name: str):
    with pytest.raises(ValueError, match=f"The module '{name}' takes predictions.*, but got .*, images"):
        module.add_batch(**sides(name, X, Y), images=X)


def test_a_missing_side_is_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="'alignment' takes predictions and references, but got predictions"):
        modules["alignment"].add_batch(predictions=X)
    with pytest.raises(ValueError, match="'alignment' takes predictions and references, but got nothing"):
        modules["alignment"].add_batch()


def test_references_of_uniformity_are_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="'uniformity' takes predictions, but got predictions, references"):
        modules["uniformity"].add_batch(predictions=X, references=Y)


@pytest.mark.parametrize("value", [X[0], X[0].numpy(), X[0].tolist()], ids=["torch", "numpy", "list"])
def test_a_single_row_in_place_of_a_batch_is_refused(module: Any, name: str, value: Any):
    with pytest.raises(ValueError, match=r"`predictions` must have shape \(rows, width\), but got shape \[5\]"):
        module.add_batch(**sides(name, value, value))


@pytest.mark.parametrize("value", [[[1.0, 2.0], [1.0]], [["a", "b"]], [[None, 1.0]]], ids=["ragged", "text", "None"])
def test_what_holds_no_numbers_is_refused(modules: dict[str, Any], value: Any):
    with pytest.raises(ValueError, match="`predictions` must hold rows of numbers, all of one length"):
        modules["uniformity"].add_batch(predictions=value)


def test_too_few_rows_are_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="must have at least 2 rows"):
        modules["uniformity"].compute(predictions=X[:1])


def test_unequal_pairs_are_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="there must be as many queries as keys, but got 12 and 3"):
        modules["retrieval"].compute(predictions=X, references=Y[:3])


def test_an_unknown_option_is_refused(module: Any, name: str):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        module.compute(**sides(name, X, Y), colour=1)


def test_several_processes_are_refused(name: str):
    module = load_metric(name, num_process=2, process_id=0, experiment_id="two")
    with pytest.raises(ValueError, match=f"'{name}' does not join processes, .* `accelerator.gather_for_metrics`"):
        module.compute(**sides(name, X, Y))


# ---- Loading ----


def test_lists_the_modules():
    assert list_metrics() == NAMES


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(ValueError, match=f"There is no metric called 'gap'. Known metrics: {', '.join(NAMES)}"):
        load_metric("gap")


def test_loads_by_path(name: str):
    import evaluate

    found = evaluate.load(str(FOLDER / name / f"{name}.py")).compute(**sides(name, X, Y))
    assert found == pytest.approx(expected(name, X, Y), rel=1e-6)


def test_the_module_says_what_it_is(module: Any, name: str):
    assert module.name == name
    assert module.module_type == "measurement"
    assert len(module.description) > 50
    assert "Args:" in module.inputs_description
    assert "Returns:" in module.inputs_description
    assert module.citation.startswith("@")
    assert module.info.reference_urls[0].startswith("https://")


def test_the_example_of_the_description_is_right(module: Any):
    example = doctest.DocTestParser().get_doctest(
        module.inputs_description, {"hf_contrastive": hf_contrastive}, module.name, None, None
    )
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


# ---- Folders that are Spaces ----


@pytest.mark.parametrize("file", ["{name}.py", "README.md", "requirements.txt", "app.py"])
def test_every_folder_is_complete(name: str, file: str):
    assert (FOLDER / name / file.format(name=name)).is_file()


def test_the_readme_of_a_space_names_sdk_and_tags(name: str):
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    _, matter, body = text.split("---\n", 2)
    front = yaml.safe_load(matter)
    assert front["sdk"] in ("gradio", "static", "docker")
    assert "evaluate" in front["tags"]
    assert len(body.strip()) > 100


def test_the_requirements_of_a_space_hold_this_package(name: str):
    assert "hf-contrastive" in (FOLDER / name / "requirements.txt").read_text(encoding="utf-8")
