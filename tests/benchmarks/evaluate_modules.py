"""The modality gap of 20,000 x 512 float32 twice: our `evaluate` module, the bare function, and `evaluate`'s own path."""

import datasets
import evaluate
import numpy as np
import torch

from hf_contrastive import load_metric
from hf_contrastive.functional import modality_gap
from tests.benchmarks.timing import paired, table


ROWS, WIDTH = 20_000, 512
# The default path takes seconds for all rows, so it gets a tenth of them.
FEW = ROWS // 10


class DefaultPath(evaluate.Measurement):
    """The same measure as `evaluate` runs it unless a module says otherwise: through an Arrow file and Python lists."""

    def _info(self) -> evaluate.MeasurementInfo:
        rows = datasets.List(datasets.Value("float32"))
        features = datasets.Features({"predictions": rows, "references": rows})
        return evaluate.MeasurementInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions: list[list[float]], references: list[list[float]]) -> dict[str, float]:
        return {"gap": float(modality_gap(torch.tensor(predictions), torch.tensor(references)).gap)}


def main() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, ROWS, WIDTH), dtype=np.float32)
    module, default = load_metric("modality_gap"), DefaultPath()
    ways = {
        "bare function": lambda: modality_gap(torch.from_numpy(x), torch.from_numpy(y)),
        "our module": lambda: module.compute(predictions=x, references=y),
        "our module, add_batch of 1,000": lambda: _in_batches(module, x, y),
        f"evaluate's default path, {FEW} rows": lambda: default.compute(predictions=x[:FEW], references=y[:FEW]),
    }
    print(table(f"modality_gap of {ROWS} x {WIDTH} float32 twice, {torch.get_num_threads()} threads", paired(ways)))


def _in_batches(module: evaluate.Measurement, x: np.ndarray, y: np.ndarray) -> None:
    for start in range(0, ROWS, 1000):
        module.add_batch(predictions=x[start : start + 1000], references=y[start : start + 1000])
    module.compute()


if __name__ == "__main__":
    main()
