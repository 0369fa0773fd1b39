from .fixtures import hub, module_hub


__all__ = ["hub", "module_hub"]
