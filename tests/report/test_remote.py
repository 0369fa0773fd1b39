"""What was written into a card on the Hub survives the next push, from another folder as well."""

import json
from pathlib import Path

import pytest

from hf_contrastive.report.drafts import PLACEHOLDER
from hf_contrastive.report.merging import merge_cards
from tests.hub.server import LoopbackHub
from tests.report.test_merging import make_card


FIRST = make_card({"intro": "# one", "results": "1.0"})
SECOND = make_card({"intro": "# two", "results": "2.0"})
ON_HUB = FIRST.replace("1.0", "1.0, as we found too").replace("license: unknown", "license: mit\nthumbnail: me.png")
BOTH = SECOND.replace("2.0", "2.0, as I found")
DRAFT = f"---\nlibrary_name: transformers\n---\n<!-- {PLACEHOLDER} You\nshould probably proofread it. -->\n# draft\n"
PUSH = """
import json, sys, tempfile
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.hub import failures, push_folder

failures.DELAYS = (0.01, 0.01)
create_commit, edits = HfApi.create_commit, [{edit!r}]

def edited_meanwhile(api, name, *args, **kwargs):
    if name == "tester/meanwhile" and edits:
        create_commit(api, name, [CommitOperationAdd("README.md", edits.pop().encode())], commit_message="Edit")
    return create_commit(api, name, *args, **kwargs)

HfApi.create_commit = edited_meanwhile
for name, card in json.loads({cards!r}):
    folder = Path({home!r}) / name.replace("/", "-")
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(card)
    args = ContrastiveTrainingArguments(tempfile.mkdtemp(), use_cpu=True, push_to_hub=True, hub_model_id=name)
    try:
        push_folder(folder, args)
        print(json.dumps([name, "pushed"]))
    except RuntimeError as error:
        print(json.dumps([name, str(error)]))
"""


@pytest.fixture(scope="module")
def said(
    module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LoopbackHub, Path, dict[str, str]]:
    """Pushes of the second card over several that are on the Hub."""
    home = tmp_path_factory.mktemp("cards")
    module_hub.publish("tester/edited", {"README.md": ON_HUB.encode()})
    module_hub.publish("tester/untouched", {"README.md": FIRST.encode()})
    module_hub.publish("tester/bare", {"a.txt": b"a"})
    module_hub.publish("tester/silent", {"README.md": ON_HUB.encode()})
    module_hub.publish("tester/own", {"README.md": ON_HUB.encode()})
    module_hub.fail("HEAD", "tester/silent/resolve", 403, times=20)
    cards = [(f"tester/{name}", SECOND) for name in ("edited", "untouched", "bare", "silent", "new")]
    module_hub.publish("tester/both", {"README.md": ON_HUB.encode()})
    module_hub.publish("tester/finished", {"README.md": b"# finished by hand\n"})
    module_hub.publish("tester/drafted", {"README.md": DRAFT.encode()})
    cards += [("tester/own", "# by hand\n"), ("tester/both", BOTH), ("tester/finished", DRAFT)]
    cards.append(("tester/drafted", DRAFT.replace("# draft", "# newer")))
    module_hub.publish("tester/meanwhile", {"README.md": FIRST.encode()})
    cards.append(("tester/meanwhile", SECOND))
    (home / "tester-both").mkdir()
    (home / "tester-both" / "_README.local.md").write_text("of an earlier push")
    done = module_hub.run(PUSH.format(cards=json.dumps(cards), home=str(home), edit=ON_HUB), home)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return module_hub, home, dict(lines) | {"stderr": done.stderr}


def card(hub: LoopbackHub, name: str) -> str:
    return hub.files(f"tester/{name}")["README.md"].decode()


def test_edits_on_the_hub_are_in_what_is_pushed(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, home, states = said
    assert states["tester/edited"] == "pushed"
    text = card(hub, "edited")
    assert all(part in text for part in ("# two", "1.0, as we found too", "license: mit", "thumbnail: me.png"))
    assert text == merge_cards(ON_HUB, SECOND).text
    assert (home / "tester-edited" / "README.md").read_text() == text


def test_an_edit_that_is_made_while_the_files_are_sent_is_kept(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, _, states = said
    assert states["tester/meanwhile"] == "pushed"
    assert card(hub, "meanwhile") == merge_cards(ON_HUB, SECOND).text
    assert hub.commits("tester/meanwhile")[1] == "Edit"


def test_what_the_folder_said_instead_stays_there(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, home, _ = said
    assert (home / "tester-edited" / "_README.local.md").read_text() == SECOND
    assert "_README.local.md" not in hub.files("tester/edited")
    assert not (home / "tester-untouched" / "_README.local.md").exists()


@pytest.mark.parametrize("name", ["untouched", "bare", "new"])
def test_a_card_that_nobody_edited_is_replaced(said: tuple[LoopbackHub, Path, dict[str, str]], name: str):
    assert card(said[0], name) == SECOND


def test_a_card_written_by_hand_is_pushed_and_the_one_before_is_kept(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, home, states = said
    assert card(hub, "own") == "# by hand\n"
    assert (home / "tester-own" / "_README.hub.md").read_text() == ON_HUB
    assert "README.md was not generated here and replaces that of 'tester/own'" in states["stderr"]


def test_a_section_that_was_edited_on_both_sides_is_told(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, home, states = said
    assert "1.0, as we found too" in card(hub, "both")
    beside = home / "tester-both" / "_README.local.2.md"
    assert beside.read_text() == BOTH
    assert beside.with_name("_README.local.md").read_text() == "of an earlier push"
    assert "results was edited here and in 'tester/both'" in states["stderr"]
    assert f"that of here is in {str(beside)!r}" in states["stderr"]


def test_a_draft_gives_way_to_a_card_that_somebody_wrote(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, home, states = said
    assert card(hub, "finished") == "# finished by hand\n"
    assert (home / "tester-finished" / "README.md").read_text() == "# finished by hand\n"
    assert (home / "tester-finished" / "_README.local.md").read_text() == DRAFT
    assert "README.md of 'tester/finished' is kept, for it was edited" in states["stderr"]
    assert "# newer" in card(hub, "drafted")


def test_a_card_that_cannot_be_read_is_not_replaced(said: tuple[LoopbackHub, Path, dict[str, str]]):
    hub, _, states = said
    assert states["tester/silent"].startswith("The push to 'tester/silent' failed")
    assert card(hub, "silent") == ON_HUB
