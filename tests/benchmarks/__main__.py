"""All benchmarks, one after the other."""

from tests.benchmarks import evaluate_modules, trainer


evaluate_modules.main()
trainer.main()
