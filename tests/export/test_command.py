"""`hf-contrastive export`."""

from pathlib import Path

import pytest
from transformers import AutoModel

from hf_contrastive.command import main
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
