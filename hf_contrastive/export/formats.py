"""What a model can be written as."""

FORMATS = ("auto", "transformers", "sentence-transformers", "onnx", "multi_encoder", "adapter")
