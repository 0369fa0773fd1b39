"""A progress bar whose log lines fit a terminal."""

from collections.abc import Mapping
from typing import Any

from transformers import ProgressCallback

from hf_contrastive.metrics.measures import read_key


class ContrastiveProgress(ProgressCallback):
    """[`~transformers.ProgressCallback`] that writes one short line per log instead of a dictionary.

    Values of every modality and direction are shown in the order of their names, separated by slashes. The whole
    dictionary still goes to the trackers and to `trainer_state.json`.
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self.training_bar.write(log_line(logs, step=state.global_step))


def log_line(logs: Mapping[str, Any], *, step: int) -> str:
    """The most telling values of a log in one line.

    >>> log_line({"loss": 1.5, "geometry/modality_gap_image_text": 0.25, "epoch": 0.1}, step=10)
    'step    10 | loss 1.500 | gap 0.250'
    """
    mode = "eval_" if any(name.startswith("eval_") for name in logs) else ""
    short = [
        (f"{mode}loss", f"{mode}loss", "{:.3f}"),
        ("train_loss", "train_loss", "{:.3f}"),
        (f"{mode}loss/", "", "{:.3f}"),
        (f"{mode}logit_scale", "scale", "{:.1f}"),
        (f"{mode}geometry/alignment", "align", "{:.2f}"),
        (f"{mode}geometry/uniformity", "uniform", "{:.2f}"),
        (f"{mode}geometry/modality_gap", "gap", "{:.3f}"),
        (f"{mode}retrieval/", "R@1", "{:.3f}"),
    ]
    cells = [f"step {step:5d}"]
    for prefix, label, form in short:
        found = {name: value for name, value in logs.items() if _belongs(name, prefix)}
        if label:
            cells += [f"{label} {'/'.join(form.format(value) for value in found.values())}"] if found else []
        else:
            cells += [f"{name.removeprefix(prefix)} {form.format(value)}" for name, value in found.items()]
    if len(cells) == 1:
        cells += [f"{name} {value:.4g}" for name, value in logs.items() if isinstance(value, float)]
    return " | ".join(cells)


def _belongs(name: str, prefix: str) -> bool:
    if "geometry/" in prefix:
        mode, _, measure = prefix.partition("geometry/")
        found = read_key(name.removeprefix(mode))
        return found is not None and found.measure.name == measure
    if "retrieval/" in prefix:
        return name.startswith(prefix) and name.endswith("recall@1")
    return name.startswith(prefix) if prefix.endswith("/") else name == prefix
