"""Fine-tuning: the encoder of a model, trained further by labels alone, with a fresh label head."""

from __future__ import annotations

import copy

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.heads import LabelHead, pooled_size
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, label
from apercu.train import train
from apercu.training import Training


def with_new_head(model: Model, classes: int) -> Autoencoder:
    """The model with a fresh label head, and the labels as its whole objective."""
    network = copy.deepcopy(model.network)
    grid = network.grid(network.image.shape[1:])
    network.heads["label"] = LabelHead(pooled_size(network.bottleneck.dim, grid), classes)
    network.objective = Objective({"label": Term(label)})
    return network


def finetune(model: Model, labelled: ImageSet, epochs: int, seed: int) -> Autoencoder:
    """Train it on images whose label is known."""
    torch.manual_seed(seed)
    network = with_new_head(model, len(labelled.classes))
    settings = Training(epochs=epochs, batch=64, learning_rate=5e-4, seed=seed, device=str(model.device), validations=1)
    for _ in train(network, labelled, labelled.subset([]), settings):
        pass
    return network


def dump(network: Autoencoder) -> bytes:
    """Its weights as safetensors."""
    return save_tensors({key: value.contiguous() for key, value in network.state_dict().items()})


def restore(model: Model, classes: int, data: bytes) -> Autoencoder:
    """The network of `dump`."""
    network = with_new_head(model, classes)
    network.load_state_dict(load_tensors(data))
    return network
