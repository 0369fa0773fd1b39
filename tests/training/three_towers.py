"""A model with three towers, as a user might write it: no two of one make."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class ThreeTowersConfig(PretrainedConfig):
    model_type = "three_towers"


class ThreeTowers(PreTrainedModel):
    """Vectors of three modalities, embedded by a stack, a plain layer and a module list."""

    config_class = ThreeTowersConfig

    def __init__(self, config: ThreeTowersConfig) -> None:
        super().__init__(config)
        self.audio_model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.audio_projection = nn.Linear(8, 4)
        self.text_encoder = nn.Linear(5, 4)
        self.vision_model = Stack()
        self.visual_projection = nn.Linear(8, 4, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([2.0]))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def forward(self, audio: Tensor, text: Tensor, image: Tensor | None = None) -> ModelOutput:
        return ModelOutput(
            audio_embeds=self.audio_projection(self.audio_model(audio)),
            text_embeds=self.text_encoder(text),
            image_embeds=self.visual_projection(self.vision_model(image)),
        )


class Stack(nn.Module):
    """Layers with a token before and, made after them, an embedding and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(8))
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(3)])
        self.embed = nn.Linear(7, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image) + self.token
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)


def three_inputs(num_rows: int = 16) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    widths = {"audio": 6, "text": 5, "image": 7}
    return {name: torch.randn(num_rows, width, generator=generator) for name, width in widths.items()}


def three_columns(num_rows: int = 16) -> Dataset:
    columns = {name: x.tolist() for name, x in three_inputs(num_rows).items()}
    return Dataset.from_dict(columns).with_format("torch")
