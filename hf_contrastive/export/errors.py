"""What stops an export."""


class InexpressibleError(ValueError):
    """A format cannot express a model, for the reasons that the message gives."""


class DifferentExportError(RuntimeError):
    """What was written, loaded again, does not do what the model does. Nothing is left of it."""
