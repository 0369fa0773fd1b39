"""Our `evaluate` modules beside the bare functions they stand on, in CPU time, and beside `evaluate`'s own path.

`python -m tests.benchmarks.evaluate_modules [module ...]`: all modules unless some are named.
"""

import statistics
import sys
import time
from collections.abc import Callable

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor

from hf_contrastive import functional as f
from hf_contrastive import load_metric
from hf_contrastive.functional import modality_gap
from hf_contrastive.metrics.all_measures import GROUPS, QUADRATIC
from tests.benchmarks.timing import machine, paired, table


ROWS, WIDTH = 20_000, 512
# Measures that go over all pairs of rows get fewer.
FEW = ROWS // 10
CLASSES = 100


def _hubness(queries: Tensor, keys: Tensor) -> object:
    return f.hubness(f.k_occurrences(queries, keys)), f.chance_hubness(len(queries), len(keys))


def _control(x: Tensor, y: Tensor, statistic: Callable[..., Tensor]) -> object:
    return f.pairing_control(statistic, x.double(), y.double())


def _conflict(x: Tensor, y: Tensor) -> object:
    own = f.multimodal_conflict([x, y])
    return own, f.pairing_control(lambda x, y: f.multimodal_conflict([x, y]).zeta.mean(), x, y, shuffles=2)


BARE: dict[str, Callable[[Tensor, Tensor], object]] = {
    "alignment": f.alignment,
    "cosine_similarity": lambda x, y: (f.cosine_statistics(x, y), f.matched_auc(x, y)),
    "modality_gap": f.modality_gap,
    "centroid_gap": f.centroid_gap,
    "frechet_distance": f.frechet_distance,
    "modality_separability": f.modality_separability,
    "energy_distance": f.energy_distance,
    "maximum_mean_discrepancy": f.maximum_mean_discrepancy,
    "smoothed_divergence": f.divergence_of_halves,
    "hoelder_divergence": lambda x, y: f.modality_control(lambda *z: f.hoelder_divergence(z), x, y, shuffles=5),
    "cauchy_schwarz_divergence": lambda x, y: f.modality_control(f.cauchy_schwarz_divergence, x, y, shuffles=5),
    "population_energies": f.population_energies,
    "multimodal_conflict": _conflict,
    "pairing_control": lambda x, y: (
        _control(x, y, f.alignment),
        _control(x, y, lambda x, y: f.modality_gap(x, y).gap),
    ),
    "uniformity": lambda x, _: f.uniformity(x),
    "spectrum": lambda x, _: (f.summarize_spectrum(f.spectrum(x)), f.rank_me(x)),
    "isotropy": lambda x, _: (f.mean_cosine(x), f.centroid_norm(x)),
    "gaussianity": lambda x, _: (f.gaussianity(x), f.norm_variation(x)),
    "retrieval": lambda x, y: (f.retrieval_relevance(x, y), f.retrieval_relevance(y, x)),
    "hubness": lambda x, y: (_hubness(x, y), _hubness(y, x)),
    "zero_shot_accuracy": lambda x, y: f.zero_shot_accuracy(x, y[:CLASSES], torch.arange(len(x)) % CLASSES),
}


class DefaultPath(evaluate.Measurement):
    """The gap as `evaluate` runs it unless a module says otherwise: through an Arrow file and Python lists."""

    def _info(self) -> evaluate.MeasurementInfo:
        rows = datasets.List(datasets.Value("float32"))
        features = datasets.Features({"predictions": rows, "references": rows})
        return evaluate.MeasurementInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions: list[list[float]], references: list[list[float]]) -> dict[str, float]:
        return {"gap": float(modality_gap(torch.tensor(predictions), torch.tensor(references)).gap)}


def main() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, ROWS, WIDTH), dtype=np.float32)
    print(f"CPU time, width {WIDTH}, {torch.get_num_threads()} threads\n")
    print(
        "| module | rows | bare ms | module ms | ratio | add_batch of 1,000: ratio |\n| :-- | --: | --: | --: | --: | --: |"
    )
    for name in sys.argv[1:] or BARE:
        rows = FEW if name in QUADRATIC else ROWS
        _print_row(name, x[:rows], y[:rows])
    if sys.argv[1:]:
        return
    print(f"\n{machine()}\n")
    _compare_with_the_default_path(x, y)
    _time_groups(x, y)


def _print_row(name: str, x: np.ndarray, y: np.ndarray) -> None:
    module = load_metric(name)
    given = {"predictions": x, "references": y}
    options = {}
    if name == "zero_shot_accuracy":
        given["references"], options = np.arange(len(x)) % CLASSES, {"prototypes": y[:CLASSES]}
    given = {side: given[side] for side in module.inputs}

    def in_batches() -> None:
        for start in range(0, len(x), 1000):
            module.add_batch(**{side: rows[start : start + 1000] for side, rows in given.items()})
        module.compute(**options)

    ways = {
        "bare": lambda: BARE[name](torch.from_numpy(x), torch.from_numpy(y)),
        "module": lambda: module.compute(**given, **options),
        "batches": in_batches,
    }
    seconds = paired(ways, rounds=3, clock=time.process_time)
    bare, whole = (1000 * statistics.median(seconds[way]) for way in ("bare", "module"))
    ratios = [
        statistics.median(own / base for own, base in zip(seconds[way], seconds["bare"], strict=True))
        for way in ("module", "batches")
    ]
    print(f"| {name} | {len(x)} | {bare:.1f} | {whole:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def _compare_with_the_default_path(x: np.ndarray, y: np.ndarray) -> None:
    module, default = load_metric("modality_gap"), DefaultPath()
    # The default path takes seconds for all rows, so it gets a tenth of them.
    ways = {
        "bare function": lambda: modality_gap(torch.from_numpy(x), torch.from_numpy(y)),
        "our module": lambda: module.compute(predictions=x, references=y),
        f"evaluate's default path, {FEW} rows": lambda: default.compute(predictions=x[:FEW], references=y[:FEW]),
    }
    seconds = paired(ways, rounds=3, clock=time.process_time)
    print(table(f"modality_gap of {ROWS} x {WIDTH} float32 twice, CPU time", seconds))


def _time_groups(x: np.ndarray, y: np.ndarray) -> None:
    module = load_metric("contrastive_geometry")
    print(f"\ncontrastive_geometry of {ROWS} x {WIDTH} twice, CPU seconds of each group by default")
    for group in GROUPS:
        start = time.process_time()
        module.compute(predictions=x, references=y, groups=[group])
        print(f"{group}: {time.process_time() - start:.1f}", flush=True)


if __name__ == "__main__":
    main()
