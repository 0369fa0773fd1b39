"""Run by a test in a process of its own: checks of annotations at run time would cut the graph."""

import torch
from transformers import BertConfig, CLIPVisionConfig, set_seed

from hf_contrastive.models import MultiEncoder
from tests.models.tower_example import IMAGE, LAYERS, WORDS


def compare(pooling: str) -> None:
    """Compile a model into one graph, or fail, and compare what it returns."""
    set_seed(0)
    towers = {"image": CLIPVisionConfig(**IMAGE), "text": BertConfig(**LAYERS, **WORDS)}
    model = MultiEncoder.from_towers(towers, width=12, pooling={"text": pooling})
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
    inputs = {
        "pixel_values": torch.randn(3, 3, 8, 8),
        "input_ids": torch.randint(2, 98, (3, 4)),
        "attention_mask": mask,
    }
    # The graph that any compiler would be given; more than one is an error.
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected, found = model(**inputs), compiled(**inputs)
    assert list(found) == ["image_embeds", "text_embeds"]
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=0, atol=1e-6)


if __name__ == "__main__":
    for pooling in ("mean", "last", "attention"):
        compare(pooling)
