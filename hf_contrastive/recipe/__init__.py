"""What recipes are made of: arguments from YAML and the command line, towers, one run, what comes next."""

from hf_contrastive.recipe.arguments import as_arguments, gives, parse_recipe, read_mapping, read_option


__all__ = ["as_arguments", "gives", "parse_recipe", "read_mapping", "read_option"]
