"""Retrieval of a run beside its chance, with ids and without."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.metrics import retrieval_report
from hf_contrastive.report import RunResult, result_table, write_model_card
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.limits import limits
from hf_contrastive.report.retrieval import Retrieval, pools, read_count, read_retrieval, recalls_at_1, shares_ids
from tests.functional.rows import random_rows
from tests.report.runs import FACTS, METRICS, front_matter, make_result


def measured(ids: torch.Tensor | None, *, repeated: bool = False, rows: int = 60, seed: int = 0) -> RunResult:
    """A run that was measured on random rows; with `repeated`, images of one id are copies."""
    x, y = random_rows(rows, 6, seed=seed), random_rows(rows, 6, seed=seed + 1)
    x = x if ids is None or not repeated else x[ids]
    geometry = {name: value for name, value in METRICS.items() if not name.startswith("retrieval/")}
    report = retrieval_report({"image": x, "text": y}, ids=ids, detailed=True)
    return replace(make_result("clip"), metrics=geometry | report, test_rows=rows)


DIGITS = torch.arange(60) % 10
CAPTIONS = torch.arange(60) // 5


def cells(table: str) -> dict[str, str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return dict(rows)  # type: ignore[arg-type]


def test_a_key_says_direction_and_measure():
    assert read_retrieval("retrieval/query_a_to_audio_ndcg@10") == Retrieval(
        "retrieval/query_a_to_audio_ndcg@10", "query_a", "audio", "ndcg@10"
    )
    for other in ("retrieval/image_candidates", "retrieval/image_to_text_recall@1_chance", "geometry/d_prime_a_to_b"):
        assert read_retrieval(other) is None
    assert read_count("retrieval/query_a_candidates") == "query_a"
    assert read_count("retrieval/image_to_text_recall@1") is None


def test_chance_with_ids_counts_every_match():
    result = measured(DIGITS)
    first, back = recalls_at_1(result)
    # 6 of 60 rows show the same digit.
    assert first.chance(result) == pytest.approx(0.1, abs=1e-12)
    assert pools([first, back], result) == ("60", "0.1")
    table = cells(result_table([result]))
    assert table["candidates of image"] == table["candidates of text"] == "60"
    assert "image to text, R@1 (chance 0.1)" in table
    # 1 - C(54, 5) / C(60, 5)
    assert "text to image, R@5 (chance 0.42)" in table
    # (60 + 1) / (6 + 1)
    assert "text to image, mean rank (chance 8.7)" in table


def test_copies_are_one_candidate_and_each_direction_has_its_chance():
    result = measured(CAPTIONS, repeated=True)
    table = cells(result_table([result]))
    assert (table["candidates of image"], table["candidates of text"]) == ("12", "60")
    # 5 of 60 captions, 1 of 12 images.
    assert [recall.chance(result) for recall in recalls_at_1(result)] == pytest.approx([5 / 60, 1 / 12], abs=1e-12)
    assert pools(recalls_at_1(result), result) == ("12 to 60", "0.083")


def test_runs_with_another_chance_have_none_beside_the_name():
    table = result_table([measured(DIGITS), measured(None)])
    assert "image to text, R@1 " in table
    assert "R@1 (chance" not in table


def test_a_run_of_before_chance_was_reported_has_that_of_its_rows():
    old = make_result()
    assert {r.key: r.chance(old) for r in recalls_at_1(old)} == pytest.approx(
        {f"retrieval/{d}_recall@1": 1 / 50 for d in ("image_to_text", "text_to_image")}
    )
    with_ids = replace(old, metrics=old.metrics | {"retrieval/text_candidates": 50.0})
    assert recalls_at_1(with_ids)[0].chance(with_ids) is None


def test_queries_that_share_ids_have_no_standard_error():
    alone, digits, captions = measured(None), measured(DIGITS), measured(CAPTIONS, repeated=True)
    forth, back = recalls_at_1(alone)
    share = alone.metrics[forth.key]
    assert forth.standard_error(alone) == pytest.approx((share * (1 - share) / 60) ** 0.5)
    assert [recall.standard_error(digits) for recall in recalls_at_1(digits)] == [None, None]
    # Each image is a query of its own, captions of one image are not.
    share = captions.metrics[forth.key]
    assert forth.standard_error(captions) == pytest.approx((share * (1 - share) / 12) ** 0.5)
    assert back.standard_error(captions) is None
    assert [shares_ids(result) for result in (alone, digits, captions)] == [False, True, True]


def test_ids_of_one_row_each_change_nothing():
    result = measured(torch.arange(60).flip(0))
    assert not shares_ids(result)
    assert pools(recalls_at_1(result), result) == ("60", "0.017")


def test_limits_with_ids_claim_no_error():
    digits, captions = measured(DIGITS), measured(CAPTIONS, repeated=True)
    better = replace(digits, name="base", metrics=digits.metrics | {"retrieval/image_to_text_recall@1": 0.9})
    said = "\n".join(limits([digits, better], TrainingFacts(**FACTS)))
    assert "Retrieval among 60 candidates says little about larger pools: chance of R@1 is 0.1." in said
    assert "has a standard error" not in said
    assert "cannot be told" not in said
    assert "Several queries show the same image to text and text to image, and are no independent draws" in said
    assert "Its R@1 is lower than that of `base`: -0." in said
    said = "\n".join(limits([captions], TrainingFacts(**FACTS)))
    assert "R@1 image to text has a standard error of 0.0" in said
    assert "show the same text to image" in said


def test_a_card_of_rows_with_ids_tells_their_candidates_and_chance(tmp_path: Path):
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    write_model_card(tmp_path, [measured(CAPTIONS, repeated=True)], args, TrainingFacts(**FACTS))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "among 12 to 60 candidates (chance 0.083)" in text
    assert "where pairs that share an id all match, and copies are one candidate" in text
    front = front_matter(text)
    assert front["metrics"] == [
        "map",
        "ndcg@10",
        "recall@1",
        "recall@5",
        "recall@10",
        "median_rank",
        "mean_rank",
        "mrr",
    ]
    names = [metric["name"] for metric in front["model-index"][0]["results"][0]["metrics"]]
    assert not [name for name in names if name.endswith(("_chance", "_candidates"))]
