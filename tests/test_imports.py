"""The floors of the package: a module imports from lower floors only, and light parts load no heavy ones."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hf_contrastive


ROOT = Path(hf_contrastive.__file__).parent
PATHS = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
HEAVY = ("transformers", "evaluate", "datasets")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PATHS}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(node: ast.AST, module: str) -> set[str]:
    """Modules of ours that run-time code below `node` imports, lazily or not; names for type checkers do not count."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            for _ in range(child.level - 1):
                package = package.rpartition(".")[0]
            source = child.module or ""
            if child.level:
                source = f"{package}.{source}" if source else package
            # `from package import module` needs the module, `from module import name` the one it comes from.
            names = [alias.name for alias in child.names if alias.name != "__version__"]
            found |= {full if (full := f"{source}.{name}") in MODULES else source for name in names}
        elif not is_type_checking(child):
            found |= imports_of(child, module)
    return {name for name in found if name.split(".")[0] == "hf_contrastive"}


GRAPH = {module: imports_of(ast.parse(path.read_text()), module) for module, path in MODULES.items()}


def unit(module: str) -> str:
    """`losses` for `hf_contrastive.losses.registry`; the empty string for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def units_imported_by(name: str) -> set[str]:
    return {unit(target) for module, targets in GRAPH.items() if unit(module) == name for target in targets} - {name}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("functional", set()),
        ("world_partition", {"functional"}),
        ("lazy", set()),
        ("hard_negatives", set()),
        ("pair_scales", set()),
        ("batch_rows", {"functional", "hard_negatives", "pair_scales", "world_partition"}),
        ("queue_rows", set()),
        ("batch", {"functional", "batch_rows", "queue_rows", "world_partition"}),
        ("queue", {"batch"}),
        ("losses", {"functional", "batch", "hard_negatives"}),
        ("towers", set()),
        ("encoder", {"hard_negatives", "pair_scales", "sharded_parameters", "towers"}),
        ("distributed", {"functional", "batch", "encoder", "hard_negatives", "pair_scales"}),
        ("testing", {"functional", "batch", "distributed", "encoder", "losses", "pair_scales"}),
        ("sharded_parameters", set()),
        ("temperature", {"distributed", "losses", "pair_scales", "sharded_parameters"}),
        ("metrics", {"functional"}),
        ("hub", {"lazy", "metrics", "report"}),
        ("auto", {"models"}),
        ("models", {"data", "encoder", "hub", "pair_scales", "sharded_parameters", "towers"}),
        ("data", {"hard_negatives"}),
        ("export", {"lazy", "models", "pair_scales", "report", "towers", "training"}),
        ("command", {"diagnosis", "export", "hub"}),
        ("__main__", {"command"}),
        ("evaluators", {"data", "distributed", "encoder", "functional"}),
        ("report", {"functional", "lazy", "losses", "metrics", "towers"}),
        ("recipe", {"data", "losses", "models", "report", "training"}),
        (
            "diagnosis",
            {
                "batch",
                "data",
                "evaluators",
                "functional",
                "lazy",
                "losses",
                "metrics",
                "models",
                "report",
                "towers",
            },
        ),
        (
            "training",
            {
                "batch",
                "data",
                "distributed",
                "encoder",
                "evaluators",
                "functional",
                "hard_negatives",
                "hub",
                "losses",
                "metrics",
                "pair_scales",
                "queue",
                "report",
                "sharded_parameters",
                "temperature",
                "towers",
            },
        ),
    ],
)
def test_a_module_imports_from_lower_floors_only(name: str, allowed: set[str]):
    assert units_imported_by(name) <= allowed


def test_only_recipes_import_the_trainer():
    importers = {unit(module) for module, targets in GRAPH.items() if "hf_contrastive.training.trainer" in targets}
    assert importers <= {"recipe", "training"}


def test_no_module_imports_the_package_itself():
    # Its lazy names would hide a module's dependencies from this test. The version alone may come from there.
    assert [module for module, targets in GRAPH.items() if "hf_contrastive" in targets] == []


def test_every_import_of_ours_exists():
    assert set().union(*GRAPH.values()) <= set(MODULES)


def test_no_import_runs_in_a_circle():
    remaining = {module: {name for name in targets if name in GRAPH} - {module} for module, targets in GRAPH.items()}
    while free := {module for module, targets in remaining.items() if not targets & remaining.keys()}:
        remaining = {module: targets for module, targets in remaining.items() if module not in free}
    assert sorted(remaining) == []


@pytest.mark.parametrize("module", ["hf_contrastive", "hf_contrastive.functional", "hf_contrastive.losses"])
def test_the_numerical_core_loads_nothing_heavy(module: str):
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == []


def test_the_package_itself_does_not_load_torch():
    code = "import sys, hf_contrastive; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, timeout=120, check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "diagnose --help", "export --help", "push --help", "push", "train", "push nowhere me/x"],
)
def test_the_command_answers_before_it_loads_what_is_heavy(words: str):
    code = f"""import sys
from hf_contrastive.command import main
try:
    main({words.split()})
except SystemExit:
    sys.exit(bool({{"torch", "numpy", "huggingface_hub", *{HEAVY}}} & sys.modules.keys()))"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("package", ["diagnosis", "export", "hub", "report"])
def test_a_lazy_package_has_all_its_names(package: str):
    module = importlib.import_module(f"hf_contrastive.{package}")
    block = next(
        node for node in ast.parse((ROOT / package / "__init__.py").read_text()).body if is_type_checking(node)
    )
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"{module.__name__}.{part}" for name, part in module._MODULES.items()}
    assert [name for name in module.__all__ if getattr(module, name) is None] == []


@pytest.mark.parametrize("name", hf_contrastive.__all__)
def test_every_public_name_exists(name: str):
    assert getattr(hf_contrastive, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hf_contrastive' has no attribute 'trainer_of_contrast'"):
        hf_contrastive.trainer_of_contrast  # noqa: B018


def test_type_checkers_see_the_names_that_exist():
    block = next(node for node in ast.parse((ROOT / "__init__.py").read_text()).body if is_type_checking(node))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"hf_contrastive.{module}" for name, module in hf_contrastive._MODULES.items()}
