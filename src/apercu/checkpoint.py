"""Checkpoints: one safetensors file with everything a run needs to go on, written so that it is whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from apercu.errors import TrainingError

NAME = "checkpoint.safetensors"


def write_atomically(path: Path, data: bytes) -> None:
    """Write next to `path`, flush to the disk, then rename over it: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, state: Any) -> None:  # noqa: ANN401
    """Write the tensors of `modules` and `optimizer`, and `state` as JSON, in one file."""
    tensors = {
        f"{name}.{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value.detach().cpu().contiguous() for key, value in entries.items()}
    write_atomically(path, save(tensors, metadata={"state": json.dumps(state)}))


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> Any:  # noqa: ANN401
    """Put everything back, and return the state that was saved with it.

    Raises:
        TrainingError: there is no checkpoint, or it was made by another model.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint in {path.parent}; leave out --resume to start a new run")
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, module in modules.items():
            module.load_state_dict(_under(tensors, name))
        _load_optimizer(optimizer, _under(tensors, "optimizer"))
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"{path} does not belong to this model ({reason}); resume with the arguments it was started with, "
            "or leave out --resume to start a new run"
        ) from error
    return state


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, field = key.split(".", 1)
        entries.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, state in optimizer.state.items():
        for field, value in state.items():
            if value.shape == parameter.shape:  # fused kernels want the memory format of the parameter
                state[field] = torch.empty_like(parameter).copy_(value)
