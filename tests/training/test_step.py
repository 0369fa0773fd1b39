"""From inputs of a step to the batch that a loss sees."""

import pytest
import torch

from hf_contrastive.losses import CLIP, total
from hf_contrastive.testing import random_output
from hf_contrastive.training.step import build_batch, split_inputs


THREE = ("audio", "image", "text")


def test_marks_and_ids_are_for_the_trainer_and_the_rest_for_the_model():
    inputs = {name: torch.ones(2) for name in ("pixel_values", "present_image", "example_ids", "input_ids")}
    model, present, ids = split_inputs(inputs)
    assert set(model) == {"pixel_values", "input_ids"}
    assert set(present) == {"image"}
    assert ids is inputs["example_ids"]


def test_a_modality_that_is_not_marked_is_there():
    text = torch.arange(8) > 1
    batch = build_batch(random_output(modalities=THREE), {"text": text}, torch.arange(8), progress=0.5)
    assert torch.equal(batch.present["text"], text)
    assert batch.present["audio"].all()
    assert batch.ids is not None
    assert batch.progress == 0.5


def test_a_row_that_lacks_something_is_as_if_it_had_not_been_in_those_pairs():
    text = torch.arange(8) > 1
    output = random_output(modalities=("image", "text", "audio"))
    batch = build_batch(output, {"text": text}, None)
    complete = {m: x[2:] for m, x in output.embeds.items() if m != "audio"}
    alone = CLIP()(build_batch(output._replace(embeds=complete), {}, None))
    terms = CLIP()(batch)
    # A third of all pairs of modalities is image and text, and their rows are the last six.
    assert terms["clip_image_to_text"].item() == pytest.approx(alone["clip_image_to_text"].item() / 3, abs=1e-12)
    assert total(terms).isfinite()


def test_a_row_with_fewer_than_two_modalities_is_refused_with_its_index():
    present = {"text": torch.arange(8) != 5, "audio": torch.arange(8) != 5}
    message = r"^Row 5 of the batch has fewer than two of the modalities \['audio', 'image', 'text'\].*\(1 such rows\)"
    with pytest.raises(ValueError, match=message):
        build_batch(random_output(modalities=THREE), present, None)


def test_a_mark_for_a_modality_that_the_model_lacks_is_refused():
    with pytest.raises(ValueError, match=r"^Examples lack \['audio'\], but the model returned \['image', 'text'\]\.$"):
        build_batch(random_output(), {"audio": torch.arange(8) > 1}, None)
