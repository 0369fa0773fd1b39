"""What of a model is trained, how fast, and what is kept of it: the floor below the contrastive loss."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import PredictionOutput
from transformers.utils import logging

from hf_contrastive.pair_scales import BIAS
from hf_contrastive.sharded_parameters import reshard
from hf_contrastive.temperature import is_scale_or_bias
from hf_contrastive.towers.frozen import freeze_towers
from hf_contrastive.training.adapters import (
    SCALARS_FILE,
    add_adapter,
    card_kept,
    is_adapted,
    load_scalars,
    save_scalars,
    scalars,
)
from hf_contrastive.training.checkpoints import Part
from hf_contrastive.training.ema import EMA, EMA_FILE
from hf_contrastive.training.optimizer import describe_groups, set_learning_rates
from hf_contrastive.training.random_state import RandomState
from hf_contrastive.training.resumable import ResumableTrainer
from hf_contrastive.training.saved_names import loading_saved_names
from hf_contrastive.training.training_args import ContrastiveTrainingArguments
from hf_contrastive.training.unprepared import unrounded_after


logger = logging.get_logger(__name__)


class TowerTrainer(ResumableTrainer):
    """
    Trainer of models with towers: some frozen, some faster than others, adapted by `peft`, averaged over steps.

    Args:
        model ([`~transformers.PreTrainedModel`] or `peft.PeftModel`):
            Model with towers, see [`find_towers`].
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the training run.
        peft_config (`peft.PeftConfig`, *optional*):
            Adapter to train instead of the model's weights. The adapter alone is saved, with temperature and bias
            beside it; [`load_adapter`] reads both.
        kwargs:
            Further arguments of [`~transformers.Trainer`].
    """

    def __init__(
        self, model: nn.Module, args: ContrastiveTrainingArguments, *, peft_config: Any = None, **kwargs: Any
    ) -> None:
        if kwargs.get("processing_class") is None and getattr(model, "has_processor", bool)():
            # Saved and pushed beside the model, as any other's; found now, not when there are weights to lose.
            kwargs["processing_class"] = model.processor
        super().__init__(_prepared(model, args, peft_config), args, **kwargs)
        if self.optimizer is not None and (args.tower_learning_rates or args.layer_decay is not None):
            raise ValueError(
                "`tower_learning_rates` and `layer_decay` are for the optimizer that the trainer makes, but `optimizers` "
                "gives another. Use one of them."
            )
        self.ema = None if args.ema_decay is None else self._new_average(args.ema_decay)

    def _new_average(self, decay: float) -> EMA:
        """A moving average that is kept while training and in checkpoints."""
        if self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3:
            raise ValueError(
                "`ema_decay` reads the parameters after each step and writes them for each evaluation, which DeepSpeed "
                "ZeRO-3 has cut and gathers in forward passes alone. Train with ZeRO-2 or FSDP2, or set it to None."
            )
        ema = EMA(decay, replace_model=self.args.save_ema, is_skipped=self.steps.is_left_out, scalars=self._vectors)
        self.add_callback(ema)
        self.checkpoints.add(
            Part(
                file=EMA_FILE,
                save=lambda file: ema.save(file, write=self.args.should_save),
                load=lambda file: ema.load(file, self.model),
                joint=True,
                missing="the moving average starts at the weights of the checkpoint",
            )
        )
        return ema

    # ---- Optimizer ----

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Parameters that decay: those of [`~transformers.Trainer`] but temperature and bias."""
        return [name for name in super().get_decay_parameter_names(model) if not is_scale_or_bias(name)]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of [`~transformers.Trainer`], with learning rates by tower, block and temperature."""
        existed = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if not existed:
            set_learning_rates(
                optimizer,
                self.accelerator.unwrap_model(self.model if model is None else model),
                logit_scale_learning_rate=self.args.logit_scale_learning_rate,
                tower_learning_rates=self.args.tower_learning_rates,  # type: ignore[arg-type]  # JSON is parsed by now
                layer_decay=self.args.layer_decay,
            )
            logger.info(describe_groups(optimizer))
        return optimizer

    # ---- Evaluation ----

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics of [`~transformers.Trainer`], of the moving average if `evaluate_ema`."""
        with self._aside():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """Predictions of [`~transformers.Trainer`], by the moving average if `evaluate_ema`."""
        with self._aside():
            return super().predict(*args, **kwargs)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Inside, the weights are those to evaluate; after it, weights and random state are those of before."""
        ema = self.ema if self.args.evaluate_ema else None
        try:
            # What is drawn here, such as by loaders, must not change what training draws next.
            with (
                RandomState.now([self.args.device]).again(),
                nullcontext() if ema is None else ema.swapped(self.model),
                unrounded_after(self.model) if self._is_cast_to_evaluate else nullcontext(),
            ):
                yield
        finally:
            # What is trained next must be the parameters themselves.
            reshard(self.model)

    @property
    def _is_cast_to_evaluate(self) -> bool:
        return not self.is_in_train and (self.args.fp16_full_eval or self.args.bf16_full_eval)

    # ---- Checkpoints ----

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        with card_kept(folder):
            super()._save(output_dir, state_dict)
        if is_adapted(self.model) and self.args.should_save:
            save_scalars(self.model, folder, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with loading_saved_names(self.model if model is None else model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_beside(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        with loading_saved_names(self.model):
            super()._load_best_model()
        best = Path(str(self.state.best_model_checkpoint))
        self._load_beside(best)
        if self.ema is not None and (best / EMA_FILE).exists():
            self.ema.load(best / EMA_FILE, self.model, resume=False)

    def _load_beside(self, folder: Path) -> None:
        if is_adapted(self.model):
            load_scalars(self.model, folder / SCALARS_FILE)


def _prepared(model: nn.Module, args: ContrastiveTrainingArguments, peft_config: Any) -> nn.Module:
    """The model, in an adapter if one is asked for, with frozen what is to be frozen."""
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "The model has an adapter from its own `add_adapter`, which is saved without temperature and bias. Give "
            "`peft_config` instead, or a model wrapped by `peft.get_peft_model`."
        )
    if peft_config is not None:
        model = add_adapter(model, peft_config)
    elif is_adapted(model) and BIAS in scalars(model):
        # Frozen by `peft` with the rest of the model.
        scalars(model)[BIAS].requires_grad_(True)
    freeze_towers(
        model,
        args.freeze_towers or (),
        unfreeze_last=args.unfreeze_last,  # type: ignore[arg-type]  # JSON is parsed by now
        projections=args.freeze_projections or (),
    )
    kept = getattr(args, "activation_checkpointing_kwargs", None) or args.gradient_checkpointing_kwargs or {}
    if args.unfreeze_last and kept.get("use_reentrant"):
        raise ValueError(
            "`use_reentrant` checkpoints compute no gradient of layers whose inputs need none, such as the first that "
            "`unfreeze_last` leaves trainable. Set `use_reentrant` to False."
        )
    return model
