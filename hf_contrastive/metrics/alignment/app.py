"""The Space of the measurement: its description and a form to try it."""

import evaluate
from evaluate.utils import launch_gradio_widget


launch_gradio_widget(evaluate.load("alignment.py"))
