"""The Space of the measurement: its description and a form to try it."""

import evaluate

from hf_contrastive.metrics import space


space.build(evaluate.load("hubness.py")).launch()
