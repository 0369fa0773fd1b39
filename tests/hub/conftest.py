from .fixtures import hub, module_hub


__all__ = ["hub", "module_hub"]

# A program of its own, which reads its command line.
collect_ignore = ["training_client.py"]
