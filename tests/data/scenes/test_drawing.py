import numpy as np
import pytest

from hf_contrastive.data.scenes.drawing import draw_scene
from hf_contrastive.data.scenes.sampling import Sample
from hf_contrastive.data.scenes.scene import Scene, Thing
from hf_contrastive.data.scenes.vocabulary import BACKGROUNDS, COLOURS, SHAPES, textures_of


# Their centres are empty, or near the edge.
OPEN_SHAPES = {"ring", "moon"}


def test_plain_things_show_their_colour_at_their_centre(test_samples: list[Sample]) -> None:
    seen = set()
    for sample in test_samples[:200]:
        pixels = np.asarray(draw_scene(sample.scene))
        for thing in sample.scene.things:
            if thing.texture == "plain" and thing.shape not in OPEN_SHAPES:
                np.testing.assert_allclose(pixels[thing.y, thing.x], COLOURS[thing.colour], atol=2)
                seen.add(thing.colour)
    assert seen == set(COLOURS)


@pytest.mark.parametrize("shape", SHAPES)
def test_textures_look_different(shape: str) -> None:
    images = [_pixels(Thing(shape, "red", texture, 25, x=32, y=32)) for texture in textures_of(shape)]
    for index, image in enumerate(images):
        assert all(np.abs(image - other).mean() > 2 for other in images[:index])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_thing_stands_out_from_its_background(background: str) -> None:
    scene = Scene(background, 5, ())
    empty = np.asarray(draw_scene(scene)).astype(float)
    for colour in set(COLOURS) - BACKGROUNDS[background].clashes:
        square = Thing("square", colour, "plain", 14, x=32, y=32)
        image = np.asarray(draw_scene(Scene(background, 5, (square,)))).astype(float)
        assert np.abs(image - empty)[29:35, 29:35].max(axis=-1).min() > 25, colour


def test_images_are_small_and_repeatable(test_samples: list[Sample]) -> None:
    scene = test_samples[0].scene
    image = draw_scene(scene)
    assert (image.size, image.mode) == ((64, 64), "RGB")
    assert image.tobytes() == draw_scene(scene).tobytes()


def _pixels(thing: Thing) -> np.ndarray:
    return np.asarray(draw_scene(Scene("wall", 5, (thing,)))).astype(float)
