"""A small CLIP from scratch, with a tokenizer of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.utils import is_torchvision_available


BOS, EOS, PAD, UNK = "<|startoftext|>", "<|endoftext|>", "<|pad|>", "<|unknown|>"


HEAD_WIDTH = 32


def _size(default: int, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class SmallCLIPSize:
    """Shape of [`small_clip`], by default one that two CPU cores train in minutes. Sizes are positive.

    Args:
        image_size: Width and height that images are resized to, in pixels.
        patch_size: Width and height of a patch; it divides `image_size`.
        width: Width of both towers, a multiple of the 32 of an attention head.
        vision_layers: Layers of the vision tower.
        text_layers: Layers of the text tower.
        projection_dim: Width of the joint space.
        vocab_size: Most tokens that the tokenizer may learn.
        max_tokens: Longest caption, in tokens; longer ones are cut.
    """

    image_size: int = _size(64, "Small model: width and height of its images, in pixels.")
    patch_size: int = _size(16, "Small model: width and height of a patch; it divides the image size.")
    width: int = _size(128, "Small model: width of both towers, a multiple of 32.")
    vision_layers: int = _size(4, "Small model: layers of the vision tower.")
    text_layers: int = _size(3, "Small model: layers of the text tower.")
    projection_dim: int = _size(128, "Small model: width of the joint space.")
    vocab_size: int = _size(2000, "Small model: most tokens that its tokenizer may learn.")
    max_tokens: int = _size(40, "Small model: longest caption, in tokens; longer ones are cut.")

    def __post_init__(self) -> None:
        for size in fields(SmallCLIPSize):
            if getattr(self, size.name) < 1:
                raise ValueError(f"`{size.name}` must be at least 1, but got {getattr(self, size.name)}.")
        if self.image_size % self.patch_size:
            raise ValueError(f"`patch_size` must divide `image_size` {self.image_size}, but got {self.patch_size}.")
        if self.width % HEAD_WIDTH:
            raise ValueError(f"`width` must be a multiple of {HEAD_WIDTH}, but got {self.width}.")


def small_clip(captions: Iterable[str], size: SmallCLIPSize | None = None) -> tuple[CLIPModel, CLIPProcessor]:
    """A new [`~transformers.CLIPModel`] and its processor, with a tokenizer trained on `captions`.

    Both are plain `transformers` classes: what is saved loads without this package. Weights follow torch's global seed.
    """
    size = size or SmallCLIPSize()
    tokenizer = train_tokenizer(captions, vocab_size=size.vocab_size, max_tokens=size.max_tokens)
    tower = {
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_attention_heads": size.width // HEAD_WIDTH,
    }
    config = CLIPConfig(
        text_config=tower
        | {
            "num_hidden_layers": size.text_layers,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": size.max_tokens,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=tower
        | {
            "num_hidden_layers": size.vision_layers,
            "image_size": size.image_size,
            "patch_size": size.patch_size,
        },
        projection_dim=size.projection_dim,
    )
    square = {"height": size.image_size, "width": size.image_size}
    # `transformers` falls back to the latter by itself, with a warning.
    kind = "CLIPImageProcessor" if is_torchvision_available() else "CLIPImageProcessorPil"
    image_processor = getattr(transformers, kind)(size=square, crop_size=square, do_center_crop=False)
    return CLIPModel(config), CLIPProcessor(image_processor, tokenizer)


def train_tokenizer(captions: Iterable[str], *, vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from `captions`, in lower case; the same captions give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, UNK, BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (BOS, EOS)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        model_max_length=max_tokens,
    )
