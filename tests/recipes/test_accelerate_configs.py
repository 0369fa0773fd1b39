"""The shipped Accelerate configurations, read by Accelerate itself."""

from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env


FOLDER = Path(__file__).parents[2] / "recipes" / "accelerate"
NAMES = ["cpu_two_processes", "ddp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "fsdp2"]


def load(name: str) -> ClusterConfig:
    # It refuses keys that it does not know.
    return load_config_from_file(str(FOLDER / f"{name}.yaml"))


def launch(name: str) -> Any:
    """Arguments of `accelerate launch` with this configuration."""
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), "train.py"])
    return _validate_launch_command(arguments)[0]


def test_every_configuration_is_tested_and_named_in_the_readme():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == NAMES
    readme = (FOLDER / "README.md").read_text()
    assert [name for name in NAMES if f"`{name}.yaml`" not in readme] == []


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_it(name: str):
    config = load(name)
    cpu = name == "cpu_two_processes"
    assert (config.num_machines, config.num_processes, config.use_cpu) == (1, 2 if cpu else 8, cpu)
    assert config.mixed_precision == ("no" if cpu else "bf16")


def test_plain_processes_are_not_sharded():
    for name in ("ddp", "cpu_two_processes"):
        config = load(name)
        assert config.distributed_type == DistributedType.MULTI_GPU
        assert (config.fsdp_config, config.deepspeed_config) == ({}, {})
        assert launch(name).multi_gpu


def test_fsdp2_wraps_layers_and_saves_whole_weights():
    assert load("fsdp2").distributed_type == DistributedType.FSDP
    arguments = launch("fsdp2")
    assert arguments.use_fsdp
    environment = prepare_multi_gpu_env(arguments)
    wanted = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    assert {name: environment.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_takes_its_stage_and_zero3_saves_whole_weights(stage: int):
    config = load(f"deepspeed_zero{stage}")
    assert config.distributed_type == DistributedType.DEEPSPEED
    assert config.deepspeed_config["zero_stage"] == stage
    arguments = launch(f"deepspeed_zero{stage}")
    assert arguments.use_deepspeed
    assert arguments.zero_stage == stage
    assert config.deepspeed_config.get("zero3_save_16bit_model", False) == (stage == 3)
