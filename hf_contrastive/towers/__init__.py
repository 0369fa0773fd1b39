"""Parts of a model that embed one modality each: found from the architecture, locked, computed once."""
