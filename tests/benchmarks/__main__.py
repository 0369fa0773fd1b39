"""All benchmarks, one after the other."""

import importlib.util

from tests.benchmarks import (
    evaluate_modules,
    losses,
    losses_accuracy,
    losses_distributed,
    losses_memory,
    parity,
    trainer,
)


evaluate_modules.main()
trainer.main()
losses.main([])
losses_accuracy.main([])
losses_memory.main([])
parity.main()
if importlib.util.find_spec("open_clip"):
    losses_distributed.main([])
