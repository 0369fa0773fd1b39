"""What a card says of a loss: for each that is registered, a formula and whom to cite."""

import re

import pytest
import torch
import torch.nn.functional as F

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses import LossInfo, get_loss, list_losses, total
from hf_contrastive.report.objective import WITHOUT_NEGATIVES, Objective, bibliography, bibtex


OURS = [info for info in list_losses() if info.cls.__module__.startswith("hf_contrastive.")]
IDS = [info.name for info in OURS]
FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.MULTILINE)


@pytest.mark.parametrize("info", OURS, ids=IDS)
def test_every_loss_has_a_formula(info: LossInfo):
    assert info.formula
    # What breaks LaTeX most often: braces and \\left without its partner, dollars inside dollars.
    depth = 0
    for sign in re.sub(r"\\\\[{}]", "", info.formula):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert "$" not in info.formula
    assert info.formula.count(r"\Big(") == info.formula.count(r"\Big)")
    assert info.formula.count(r"\big(") == info.formula.count(r"\big)")


@pytest.mark.parametrize("info", OURS, ids=IDS)
def test_every_loss_of_a_paper_has_its_entry(info: LossInfo):
    # A sum of losses has no paper of its own: it cites its parts.
    assert (info.paper is None) == (info.name == "weighted_sum")
    if info.paper:
        entry = dict(FIELD.findall(bibtex(info.paper)))
        assert entry["eprint"] == info.paper
        assert set(entry) >= {"title", "author", "year", "archivePrefix"}
        # The year of the paper is that of its number or later, when it was published.
        assert int(entry["year"]) >= 2000 + int(info.paper[:2])


def test_the_bibliography_is_well_formed_and_of_losses_only():
    keys = [re.match(r"@(?:misc|inproceedings)\{(\w+),\n", entry) for entry in bibliography()]
    assert all(keys)
    assert len({match[1] for match in keys if match}) == len(keys)
    papers = [dict(FIELD.findall(entry))["eprint"] for entry in bibliography()]
    assert sorted(papers) == sorted({info.paper for info in OURS if info.paper})
    assert all(entry.count("{") == entry.count("}") for entry in bibliography())


def test_a_paper_that_is_not_in_the_bibliography_is_cited_by_its_number():
    assert bibtex("9901.00001") == ("@misc{arxiv:9901.00001,\n  eprint = {9901.00001},\n  archivePrefix = {arXiv},\n}")


def test_losses_inside_others_are_found_at_any_depth():
    inner = {"name": "weighted_sum", "options": {"parts": [{"name": "clip"}, {"name": "vicreg"}]}}
    objective = Objective.of(get_loss("matryoshka", loss=inner))
    assert [info.name for info in objective.infos] == ["matryoshka", "weighted_sum", "clip", "vicreg"]
    assert objective.papers == ["2205.13147", "2103.00020", "2105.04906"]
    assert objective.has_negatives


@pytest.mark.parametrize("info", [info for info in OURS if info.name not in ("matryoshka", "weighted_sum")], ids=repr)
def test_a_loss_reads_the_temperature_or_says_not(info: LossInfo):
    generator = torch.Generator().manual_seed(0)
    embeds = {m: F.normalize(torch.randn(6, 4, generator=generator), dim=1) for m in ("image", "text")}
    loss = get_loss(info.name)
    values = []
    for scale in (2.0, 5.0):
        torch.manual_seed(0)
        batch = ContrastiveBatch.whole(embeds, torch.tensor(scale), torch.tensor(-1.0))
        values.append(float(total(loss(batch))))
    assert (values[0] != values[1]) == Objective.of(loss).has_scale


def test_a_class_of_the_same_name_is_not_taken_for_ours():
    class CLIP:
        def __call__(self, batch: ContrastiveBatch) -> dict[str, torch.Tensor]:
            return {}

    assert Objective.of(CLIP()).infos == ()


@pytest.mark.parametrize("name", sorted(WITHOUT_NEGATIVES))
def test_losses_without_negatives_are_registered_and_say_so(name: str):
    assert not Objective.of(get_loss(name)).has_negatives


def test_the_memory_of_a_loss_is_no_part_of_what_it_is():
    assert Objective.of(get_loss("clip")).shown == "CLIP()"
    assert Objective.read("InfoNCE(anchor='image', keep_bytes=5)").shown == "InfoNCE(anchor='image')"


def test_a_function_is_shown_without_its_address():
    def my_loss(batch: object) -> dict[str, object]:
        return {}

    objective = Objective.of(my_loss)  # type: ignore[arg-type]
    assert "0x" not in objective.shown
    assert objective.name == "custom"


def test_an_objective_made_of_others_names_them_with_their_papers():
    parts = [{"name": "clip"}, {"name": "vicreg"}]
    told = Objective.of(get_loss("weighted_sum", parts=parts)).told
    clip, vicreg = (f"(https://huggingface.co/papers/{paper})" for paper in ("2103.00020", "2105.04906"))
    assert told == f"`weighted_sum` of [`clip`]{clip} and [`vicreg`]{vicreg}"
