"""All benchmarks, one after the other."""

import importlib.util

from tests.benchmarks import (
    chunked,
    evaluate_modules,
    losses,
    losses_accuracy,
    losses_distributed,
    losses_memory,
    trainer,
)


evaluate_modules.main()
trainer.main()
chunked.main([])
losses.main([])
losses_accuracy.main([])
losses_memory.main([])
if importlib.util.find_spec("open_clip"):
    losses_distributed.main([])
