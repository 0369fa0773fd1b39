"""A trained encoder in the files of other libraries, so that people without this package can load it."""

from typing import TYPE_CHECKING

from hf_contrastive.lazy import lazy_names


if TYPE_CHECKING:
    from hf_contrastive.export.errors import DifferentExportError as DifferentExportError
    from hf_contrastive.export.errors import InexpressibleError as InexpressibleError
    from hf_contrastive.export.exporting import Exported as Exported
    from hf_contrastive.export.exporting import export as export
    from hf_contrastive.export.formats import FORMATS as FORMATS
    from hf_contrastive.export.metadata import ExportMetadata as ExportMetadata
    from hf_contrastive.export.metadata import export_metadata as export_metadata
    from hf_contrastive.export.writer import possible_formats as possible_formats


_MODULES = {
    "DifferentExportError": "errors",
    "ExportMetadata": "metadata",
    "Exported": "exporting",
    "FORMATS": "formats",
    "InexpressibleError": "errors",
    "export": "exporting",
    "export_metadata": "metadata",
    "possible_formats": "writer",
}

__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
