"""The `evaluate` modules: the functional core behind the interface of `evaluate`."""

import doctest
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import hf_contrastive
from hf_contrastive.functional import alignment, hoelder_divergence, modality_gap, multimodal_conflict, uniformity
from hf_contrastive.metrics import list_metrics, load_metric
from hf_contrastive.metrics import loading as metrics_loading
from hf_contrastive.metrics.loading import module_class


FOLDER = Path(metrics_loading.__file__).parent
GENERATOR = torch.Generator().manual_seed(0)
X, Y, Z = (torch.randn(40, 5, generator=GENERATOR) + shift for shift in (0.0, 0.3, -0.2))
CLASSES, PROTOTYPES = torch.arange(40) % 3, torch.eye(3, 5)
NAMES = [info.name for info in list_metrics()]
ONE_CLOUD = ["gaussianity", "isotropy", "spectrum", "uniformity"]
WITH_IDS = [name for name in NAMES if "prediction_ids" in module_class(name).optional]
# Pieces of one item in both modalities, of different numbers.
X_IDS, Y_IDS = torch.arange(40) // 4, torch.arange(30) % 10


def sides(name: str, x: Any, y: Any) -> dict[str, Any]:
    """Rows of both modalities as a module takes them."""
    if name in ONE_CLOUD:
        return {"predictions": x}
    return {"predictions": x, "references": CLASSES[: len(x)] if name == "zero_shot_accuracy" else y}


def options(name: str) -> dict[str, Any]:
    return {"prototypes": PROTOTYPES} if name == "zero_shot_accuracy" else {}


def expected(name: str, x: Tensor, y: Tensor, **further: Any) -> Any:
    """What the module says of tensors, without the interface of `evaluate` around it."""
    values = module_class(name).measure(*sides(name, x, y).values(), **options(name), **further)
    return pytest.approx(values, rel=1e-4, abs=1e-5, nan_ok=True)


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


# ---- Numbers ----


@pytest.mark.parametrize(
    "kind", [Tensor.clone, Tensor.numpy, Tensor.tolist, Tensor.double], ids=["torch", "numpy", "list", "double"]
)
def test_tensors_arrays_and_lists_are_taken(module: Any, name: str, kind: Callable[[Tensor], Any]):
    found = module.compute(**sides(name, kind(X), kind(Y)), **options(name))
    assert all(type(value) is float for value in found.values())
    assert found == expected(name, X, Y)


def test_a_tensor_that_records_gradients_is_taken(module: Any, name: str):
    found = module.compute(**sides(name, X.clone().requires_grad_(), Y.clone().requires_grad_()), **options(name))
    assert found == expected(name, X, Y)


def test_both_sides_may_have_different_precisions(module: Any, name: str):
    # What half precision can tell.
    x, y = X.half().float(), Y.bfloat16().float()
    found = module.compute(**sides(name, X.half(), Y.bfloat16()), **options(name))
    assert found == expected(name, x, y)
    assert module.compute(**sides(name, x.numpy(), y.tolist()), **options(name)) == expected(name, x, y)


def test_uneven_batches_equal_one_call(module: Any, name: str):
    for rows in (slice(0, 15), slice(15, 16), slice(16, 30)):
        module.add_batch(**(sides(name, X[rows], Y[rows]) | _classes(name, rows)))
    assert len(module) == 30
    last = slice(30, 40)
    found = module.compute(**(sides(name, X[last], Y[last]) | _classes(name, last)), **options(name))
    assert found == expected(name, X, Y)
    assert len(module) == 0


def test_single_rows_equal_one_call(module: Any, name: str):
    for row, (x, y) in enumerate(zip(X, Y, strict=True)):
        reference = CLASSES[row] if name == "zero_shot_accuracy" else y
        module.add(**({"prediction": x} if name in ONE_CLOUD else {"prediction": x, "reference": reference}))
    assert module.compute(**options(name)) == expected(name, X, Y)


def _classes(name: str, rows: slice) -> dict[str, Any]:
    return {"references": CLASSES[rows]} if name == "zero_shot_accuracy" else {}


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


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if name not in {*ONE_CLOUD, "alignment", "cosine_similarity", "multimodal_conflict", "pairing_control"}
        and name not in {"population_energies", "retrieval", "zero_shot_accuracy"}
    ],
)
def test_measures_of_clouds_take_unequal_numbers_of_rows(modules: dict[str, Any], name: str):
    modules[name].add_batch(predictions=X[:15], references=Y[:16])
    found = modules[name].compute(predictions=X[15:], references=Y[16:27])
    assert found == expected(name, X, Y[:27])


@pytest.mark.parametrize("name", WITH_IDS)
def test_ids_of_batches_are_those_of_one_call(modules: dict[str, Any], name: str):
    module, wanted = modules[name], expected(name, X, Y[:30], prediction_ids=X_IDS, reference_ids=Y_IDS)
    for rows in (slice(0, 12), slice(12, 40)):
        x, y, x_ids, y_ids = X[rows], Y[:30][rows], X_IDS[rows], Y_IDS[rows]
        module.add_batch(predictions=x, references=y, prediction_ids=x_ids.tolist(), reference_ids=y_ids.numpy())
    assert module.compute() == wanted
    module.add_batch(predictions=X, references=Y[:30])
    assert module.compute(prediction_ids=X_IDS, reference_ids=Y_IDS) == wanted


def test_ids_of_single_rows_are_taken(modules: dict[str, Any]):
    for x, y, item in zip(X, Y, X_IDS, strict=True):
        modules["alignment"].add(prediction=x, reference=y, prediction_id=int(item), reference_id=int(item))
    pairs = [(x, y) for x, i in zip(X, X_IDS, strict=True) for y, j in zip(Y, X_IDS, strict=True) if i == j]
    wanted = alignment(*(torch.stack(z) for z in zip(*pairs, strict=True)))
    assert modules["alignment"].compute()["alignment"] == pytest.approx(wanted.item(), rel=1e-6)


def test_further_modalities_are_streamed_as_well(modules: dict[str, Any]):
    for rows in (slice(0, 25), slice(25, 40)):
        for name in ("hoelder_divergence", "multimodal_conflict"):
            modules[name].add_batch(predictions=X[rows], references=Y[rows], others=[Z[rows], X[rows] - Y[rows]])
    clouds = [X, Y, Z, X - Y]
    conflict = multimodal_conflict(clouds)
    found = modules["multimodal_conflict"].compute()
    assert found["zeta"] == pytest.approx(conflict.zeta.mean().item(), rel=1e-6)
    assert found["chi"] == pytest.approx(conflict.chi.mean().item(), rel=1e-6)
    found = modules["hoelder_divergence"].compute()
    assert found["hoelder_divergence"] == pytest.approx(hoelder_divergence(clouds).item(), rel=1e-5)


def test_retrieval_takes_several_keys_for_one_query(modules: dict[str, Any]):
    queries, keys = torch.eye(2), torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0], [1.0, 0.3]])
    found = modules["retrieval"].compute(
        predictions=queries, references=keys, prediction_ids=[7, 9], reference_ids=[7, 7, 9, 9], ks=[1]
    )
    # Each query finds a caption of its own first; the last caption, of item 9, is closer to query 7.
    assert (found["recall@1"], found["reverse_recall@1"]) == (1.0, 0.75)
    assert (found["map"], found["reverse_map"]) == (1.0, pytest.approx((1 + 1 + 1 + 1 / 2) / 4))
    assert found["recall@1_chance"] == pytest.approx(0.5)


PAIRS_OF_CLOUDS = [name for name in NAMES if name not in {"zero_shot_accuracy", "contrastive_geometry"}]


def test_modules_can_be_combined(modules: dict[str, Any]):
    import evaluate

    combined = evaluate.combine([modules[name] for name in PAIRS_OF_CLOUDS])
    found = combined.compute(predictions=X, references=Y)
    # Every module's values have names of their own.
    values = {k: v for name in PAIRS_OF_CLOUDS for k, v in expected(name, X, Y).expected.items()}
    assert found == pytest.approx(values, rel=1e-4, abs=1e-5, nan_ok=True)


def test_modules_can_be_combined_over_batches_with_ids_and_prefix(modules: dict[str, Any]):
    import evaluate

    names = ["modality_gap", "uniformity", "alignment", "retrieval"]
    combined = evaluate.combine({f"my_{name}": modules[name] for name in names}, force_prefix=True)
    combined.add_batch(predictions=X[:15], references=Y[:15])
    combined.add_batch(predictions=X[15:], references=Y[15:])
    found = combined.compute(prediction_ids=X_IDS, reference_ids=X_IDS)
    ids = {"prediction_ids": X_IDS, "reference_ids": X_IDS}
    wanted = {
        f"my_{name}_{k}": v
        for name in names
        for k, v in expected(name, X, Y, **(ids if name in WITH_IDS else {})).expected.items()
    }
    assert found == pytest.approx(wanted, rel=1e-4)


# ---- State ----


def test_compute_forgets_earlier_batches(module: Any, name: str):
    module.add_batch(**sides(name, X + 1, Y - 1))
    module.compute(**options(name))
    assert module.compute(**sides(name, X, Y), **options(name)) == expected(name, X, Y)


def test_compute_forgets_earlier_batches_after_an_error(module: Any, name: str):
    module.add_batch(**sides(name, X, Y))
    module.add_batch(**sides(name, X[:, :2], Y[:, :2]))
    with pytest.raises(ValueError, match=r"`predictions` must have one width in all batches, but got \[2, 5\]"):
        module.compute()
    assert module.compute(**sides(name, X, Y), **options(name)) == expected(name, X, Y)


def test_a_refused_batch_leaves_nothing_behind(module: Any, name: str):
    module.add_batch(**sides(name, X[:6], Y[:6]))
    wrong = (
        {"predictions": X[0]}
        if name in ONE_CLOUD
        else {"predictions": X[0], "references": sides(name, X, Y)["references"]}
    )
    with pytest.raises(ValueError, match=r"must have shape \(rows, width\)"):
        module.add_batch(**wrong)
    found = module.compute(**(sides(name, X[6:], Y[6:]) | _classes(name, slice(6, 40))), **options(name))
    assert found == expected(name, X, Y)


def test_compute_forgets_earlier_batches_when_its_own_is_refused():
    module = load_metric("modality_gap")
    module.add_batch(predictions=X + 1, references=Y - 1)
    with pytest.raises(ValueError, match=r"must have shape \(rows, width\)"):
        module.compute(predictions=X[0], references=Y)
    found = module.compute(predictions=X, references=Y)
    assert found == expected("modality_gap", X, Y)


@pytest.mark.parametrize("kind", [Tensor.detach, Tensor.numpy], ids=["torch", "numpy"])
def test_kept_batches_do_not_change_with_the_array_they_came_from(kind: Callable[[Tensor], Any]):
    """Loops often fill one buffer again and again."""
    buffer, module = X.clone(), load_metric("uniformity")
    module.add_batch(predictions=kind(buffer))
    buffer.fill_(1)
    assert module.compute() == expected("uniformity", X, Y)


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
        module.add_batch(**(sides(name, value, value) | _classes(name, slice(0, 5))))


@pytest.mark.parametrize("value", [[[1.0, 2.0], [1.0]], [["a", "b"]], [[None, 1.0]]], ids=["ragged", "text", "None"])
def test_what_holds_no_numbers_is_refused(modules: dict[str, Any], value: Any):
    with pytest.raises(ValueError, match="`predictions` must hold rows of numbers, all of one length"):
        modules["uniformity"].add_batch(predictions=value)


def test_too_few_rows_are_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="must have at least 2 rows"):
        modules["uniformity"].compute(predictions=X[:1])


def test_unequal_pairs_are_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match="there must be as many queries as keys, but got 40 and 3"):
        modules["retrieval"].compute(predictions=X, references=Y[:3])


def test_an_unknown_option_is_refused(module: Any, name: str):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        module.compute(**sides(name, X, Y), **options(name), colour=1)


def test_errors_call_rows_as_the_user_does(modules: dict[str, Any]):
    y = Y.clone()
    y[3, 1] = torch.nan
    with pytest.raises(ValueError, match="`references` holds rows that are not finite: row 3 is the first of 1"):
        modules["modality_gap"].compute(predictions=X, references=y)
    for name in ("cosine_similarity", "retrieval"):
        with pytest.raises(ValueError, match="Without `prediction_ids` and `reference_ids` row i matches row i"):
            modules[name].compute(predictions=X, references=Y[:3])
    with pytest.raises(ValueError, match="`references` must be from 0 to 2, but row 1 has 3"):
        modules["zero_shot_accuracy"].compute(predictions=X[:2], references=[0, 3], prototypes=PROTOTYPES)
    with pytest.raises(ValueError, match="`prototypes` holds rows that are not finite: row 3"):
        modules["zero_shot_accuracy"].compute(predictions=X[:2], references=[0, 1], prototypes=y[:4])


def test_ids_that_do_not_fit_are_refused(modules: dict[str, Any]):
    module, rows = modules["cosine_similarity"], {"predictions": X, "references": Y}
    with pytest.raises(
        ValueError, match="`prediction_ids` must hold one id for each of 40 rows of `predictions`, but"
    ):
        module.compute(**rows, prediction_ids=X_IDS[:3], reference_ids=X_IDS)
    with pytest.raises(ValueError, match="go together, but only `reference_ids` was given"):
        module.compute(**rows, reference_ids=X_IDS)
    with pytest.raises(ValueError, match="`prediction_ids` must hold whole numbers, one for each row, but got shape"):
        module.compute(**rows, prediction_ids=X_IDS.double(), reference_ids=X_IDS)
    with pytest.raises(ValueError, match="`prediction_ids` must hold whole numbers, one for each row"):
        module.compute(**rows, prediction_ids=["a"] * 40, reference_ids=X_IDS)


@pytest.mark.parametrize("name", ["multimodal_conflict", "pairing_control"])
def test_ids_are_refused_where_rows_must_match_one_to_one(modules: dict[str, Any], name: str):
    with pytest.raises(TypeError, match="unexpected keyword argument 'prediction_ids'"):
        modules[name].compute(predictions=X, references=Y, prediction_ids=X_IDS, reference_ids=X_IDS)


def test_an_unknown_statistic_is_refused(modules: dict[str, Any]):
    with pytest.raises(ValueError, match=r"`statistics` must be of alignment, recall@1, .*, but got 'accuracy'"):
        modules["pairing_control"].compute(predictions=X, references=Y, statistics=["accuracy"])


# ---- Loading ----


def test_lists_the_modules_with_one_line_each():
    folders = {path.parent.name for path in FOLDER.glob("*/requirements.txt")}
    assert {info.name for info in list_metrics()} == folders
    assert "contrastive_geometry" in folders
    assert all(info.summary.endswith(".") and len(info.summary) < 110 for info in list_metrics())


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(ValueError, match=f"There is no metric called 'gap'. Known metrics: {', '.join(NAMES)}"):
        load_metric("gap")


def test_loads_by_path(name: str):
    import evaluate

    found = evaluate.load(str(FOLDER / name)).compute(**sides(name, X, Y), **options(name))
    assert found == expected(name, X, Y)


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
        module.inputs_description, {"hf_contrastive": hf_contrastive, "torch": torch}, module.name, None, None
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


def test_the_card_names_every_option_and_every_value(name: str):
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^- (?:\*\*|`)(.+?)(?:\*\*|`):", card, re.MULTILINE))
    named |= set(re.findall(r"^- \*\*(\w+)\*\* \(", card, re.MULTILINE))
    arguments = inspect.signature(module_class(name).measure).parameters.values()
    assert {p.name for p in arguments if p.kind is p.KEYWORD_ONLY} <= named
    if name == "contrastive_geometry":
        return
    values = module_class(name).measure(*sides(name, X, Y).values(), **options(name))
    # What stands for several names: `*_chance`, `recall@k`, `<statistic>_p`.
    patterns = "|".join(re.sub(r"\\\*|<statistic>", ".+", re.escape(n).replace("@k", r"@\d+")) for n in named)
    assert [value for value in values if not re.fullmatch(patterns, value)] == []


def test_the_card_and_the_script_say_the_same(name: str):
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    summary = {info.name: info.summary for info in list_metrics()}[name]
    assert yaml.safe_load(card.split("---\n")[1])["description"] == summary
    assert module_class(name).description in card
    assert module_class(name).reference_url in card
