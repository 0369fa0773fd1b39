"""The page: complete in itself, every plot with its words, nothing of a user's that becomes markup, at home in a browser."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image

from hf_contrastive.diagnosis import Diagnosis, diagnose, write_page
from hf_contrastive.diagnosis.page import write_page_files
from hf_contrastive.diagnosis.table import tables
from tests.diagnosis.browser import Browser, chromium, missing_programs
from tests.diagnosis.conftest import clouds


KINDS = (
    "gap", "clouds", "composition", "cosines", "shift", "temperature", "potential", "hubness", "occurrences", "spectra",
    "norms", "coordinates",
)  # fmt: skip
VOID = ("meta", "link", "br", "img")


class Page(HTMLParser):
    """Tags that are open, addresses, ids, all text, and what stands in tags of a class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.ids += [value for name, value in attrs if name == "id"]
        if found.get("role") == "img":
            self.labels.append(found["aria-label"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def two(diagnosis: Diagnosis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two models."""
    return write_page(diagnosis, tmp_path_factory.mktemp("page"), command="hf-contrastive diagnose a b")


@pytest.fixture(scope="module")
def html(two: Path) -> str:
    return two.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of one set of three modalities with names that are markup, of rows that repeat."""
    x = clouds(rows=20, width=4)
    names = {"<script>alert(1)</script>": x["image"], 'b" onload="x': x["text"], "c/../$d$": x["text"] + 0.3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_contrastive.diagnosis.interventions.DIVERGENCE_WEIGHTS", (0.0, 1.0))
        patch.setattr("hf_contrastive.diagnosis.interventions.HEAD_STEPS", 2)
        found = diagnose(names, ids=torch.arange(20) // 2)
    folder = tmp_path_factory.mktemp("three")
    write_page(replace(found, name="<b>$model</b>", dataset="<i>data</i>"), folder)
    return folder


def test_the_page_needs_nothing_from_elsewhere(html: str):
    page = Page(html)
    assert page.open == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)
    assert "script" not in page.tags
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(html) < 2_000_000


def test_every_id_is_there_once_and_every_reference_has_one(html: str):
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    inner = {link[1:] for link in page.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert inner <= set(page.ids)


def test_the_page_holds_findings_tables_and_measures(diagnosis: Diagnosis, html: str):
    text = Page(html).text
    for one in diagnosis.all:
        for finding in one.findings:
            assert finding.says.replace("`", "") in text
            assert finding.advice.replace("`", "") in text
    assert all(cell in text for table in tables(diagnosis) for row in table.rows for cell in row)
    assert all(name in text for name in diagnosis.metrics)


def test_the_page_says_where_it_comes_from(html: str):
    text = Page(html).text
    assert "hf-contrastive diagnose a b" in text
    assert f"torch {version('torch')}" in text
    assert "80, which show 80 things; width 8" in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_plot_has_two_sentences_and_words_for_those_who_do_not_see_it(kind: str, html: str):
    section = re.search(rf'<section class="plot" id="{kind}(_image_text)?">.*?</section>', html, re.DOTALL)
    assert section is not None
    page = Page(section[0])
    assert page.text.count("How to read it.") == 1
    assert page.text.count("What to try.") == page.tags.count("svg") == page.tags.count("figure") == 2
    assert len(page.labels) == 2
    assert all(re.search(r"\d", label) and len(label) > 40 for label in page.labels)
    for sentence in re.findall(r"</b> (.*?)</(?:p|figcaption)>", section[0], re.DOTALL):
        assert re.fullmatch(r"[^.]*(?:\.(?=\d)[^.]*)*\.", Page(sentence).text), sentence


def test_plots_stand_beside_the_page_as_pictures(diagnosis: Diagnosis, tmp_path: Path):
    written = write_page_files(replace(diagnosis, compared=None), tmp_path / "new" / "folder")
    assert written.page == tmp_path / "new" / "folder" / "index.html"
    assert [path.name.removesuffix(".png").removesuffix("_image_text") for path in written.pictures] == list(KINDS)
    for path in written.pictures:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(image.convert("L").getcolors()) > 10
    assert Page(written.page.read_text()).tags.count("svg") == len(KINDS)


def test_names_of_a_user_stay_text(three: Path):
    html = (three / "index.html").read_text()
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "onload=" not in re.sub(r'="[^"]*"|>[^<]*<', "", html)
    assert page.text.count("<script>alert(1)</script>") > 20
    assert "<b>$model</b>" in page.text
    assert "<i>data</i>" in page.text
    assert "i" not in page.tags
    assert len(set(page.ids)) == len(page.ids)


def test_three_modalities_have_plots_of_every_pair_in_the_folder_alone(three: Path):
    pictures = sorted(path.name for path in three.iterdir() if path.suffix == ".png")
    pairs = [kind for kind in KINDS if kind not in ("clouds", "spectra", "norms", "coordinates")]
    assert len(pictures) == 3 * len(pairs) + 4
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in pictures)


def test_what_cannot_be_drawn_is_left_out_and_said(quick: None, tmp_path: Path):
    x = torch.cat([torch.eye(6), -torch.eye(6)]).repeat(3, 1)
    found = diagnose({"image": x, "text": x}, ids=torch.arange(36) % 12)
    written = write_page_files(found, tmp_path)
    text = Page(written.page.read_text()).text
    assert "potential_image_text.png" not in {path.name for path in written.pictures}
    assert "Not drawn of embeddings, image and text: Potential along the gap" in text
    assert written.missing[0] in text


def test_without_matplotlib_the_page_has_tables_and_says_so(
    diagnosis: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = write_page_files(diagnosis, tmp_path)
    page = Page(written.page.read_text())
    assert written.pictures == []
    assert "No plots: they need matplotlib, pip install hf-contrastive[recipes]." in page.text
    assert "svg" not in page.tags
    assert all(cell in page.text for table in tables(diagnosis) for row in table.rows for cell in row)
    assert "linear head, divergence weight 1" in page.text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if missing := missing_programs():
        pytest.skip(f"{' and '.join(missing)} not installed")
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [375, 1280])
def test_a_browser_shows_it_without_errors_requests_or_overflow(width: int, browser: Browser, two: Path, three: Path):
    for page in (two, three / "index.html"):
        browser.open(page, width=width)
        browser.run("document.querySelectorAll('details').forEach(x => x.open = true)")
        assert browser.console() == []
        assert browser.requests() == [page.resolve().as_uri()]
        assert browser.run("document.documentElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('figure svg')].map(x => x.getBoundingClientRect())"
        assert browser.run(f"{wide}.every(box => box.width > 250 && box.right <= {width})")


def test_a_browser_that_prefers_the_dark_gets_light_words(browser: Browser, three: Path):
    def lightness() -> list[float]:
        colors = "['color', 'backgroundColor'].map(x => getComputedStyle(document.body)[x])"
        return [sum(map(int, re.findall(r"\d+", color)[:3])) / 765 for color in browser.run(colors)]

    browser.open(three / "index.html", width=800, dark=True)
    ink, paper = lightness()
    assert ink > 0.8 > 0.2 > paper
    browser.open(three / "index.html", width=800)
    ink, paper = lightness()
    assert ink < 0.2 < 0.8 < paper


@pytest.mark.parametrize(
    "embeds",
    [
        {"image": torch.ones(20, 4), "text": clouds(rows=20, width=4)["text"]},
        {"image": torch.ones(20, 4), "text": torch.ones(20, 4)},
        {"image": torch.eye(20), "text": torch.eye(20)},
        {m: x * 1e-3 for m, x in clouds(rows=10, width=2).items()},
    ],
    ids=["a collapsed modality", "both collapsed", "equal and far apart", "few rows of width 2"],
)
def test_unusual_clouds_have_a_page(embeds: dict[str, torch.Tensor], quick: None, tmp_path: Path):
    written = write_page_files(diagnose(embeds), tmp_path)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == len(written.pictures) >= 9
    assert page.text.count("What to try.") == len(written.pictures)
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page.text)
