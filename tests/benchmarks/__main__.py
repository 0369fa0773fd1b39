"""All benchmarks, one after the other."""

import importlib.util

from tests.benchmarks import (
    evaluate_modules,
    losses,
    losses_accuracy,
    losses_distributed,
    losses_memory,
    resume,
    trainer,
)


evaluate_modules.main()
trainer.main()
losses.main([])
losses_accuracy.main([])
losses_memory.main([])
resume.main()
if importlib.util.find_spec("open_clip"):
    losses_distributed.main([])
