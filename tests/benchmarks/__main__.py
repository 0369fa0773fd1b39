"""All benchmarks, one after the other."""

import importlib.util

import torch

from tests.benchmarks import (
    chunked,
    encode,
    evaluate_modules,
    evaluation,
    geometry_logs,
    gpu,
    loader,
    losses,
    losses_accuracy,
    losses_distributed,
    losses_memory,
    metrics,
    parity,
    resume,
    towers,
    trainer,
    training_data,
)


evaluate_modules.main()
evaluation.main([])
encode.main([])
trainer.main()
towers.main()
geometry_logs.main([])
loader.main([])
training_data.main([])
chunked.main([])
losses.main([])
losses_accuracy.main([])
losses_memory.main([])
metrics.main([])
parity.main()
resume.main()
if importlib.util.find_spec("open_clip"):
    losses_distributed.main([])
if torch.cuda.is_available():
    gpu.main([])
