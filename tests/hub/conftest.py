from .fixtures import hub, module_hub


__all__ = ["hub", "module_hub"]

# Programs of their own, which read their command lines.
collect_ignore = ["ending_client.py", "joined_client.py", "training_client.py"]
