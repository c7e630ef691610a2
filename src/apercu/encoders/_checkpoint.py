"""Encoders that others trained: found on huggingface.co or in a folder, and described so that no hub is needed later.

Only weights in safetensors are opened and no code of a checkpoint is run. Of its configuration only the shape of the
network is kept, so that the description in a stranger's model can ask for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from apercu.errors import ApercuError

KINDS = (
    "clip_vision_model",
    "convnext",
    "convnextv2",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "resnet",
    "siglip_vision_model",
    "vit",
)
FILES = ["config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json"]
BICUBIC = 3  # as Pillow numbers its filters


@dataclass(frozen=True)
class Checkpoint:
    """How to build a pretrained encoder, and what it expects of images.

    `source`: where its weights are, `hf:owner/name@revision` or `hf:` and a folder; `config`: the shape of the network;
    `side`: the height and width that it takes; `mean` and `std`: what it expects of each colour, for values in [0, 1].
    """

    source: str
    config: dict[str, Any]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bicubic: bool

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """From a name such as `hf:owner/name`, or from the description that `str` gives.

        Raises:
            ApercuError: there is no such checkpoint, it cannot be reached, or Apercu cannot use its kind.
        """
        if not text.lstrip().startswith("{"):
            return _look_up(text)
        try:
            known = json.loads(text)
            known |= {"mean": tuple(known["mean"]), "std": tuple(known["std"]), "config": _shape(known["config"])}
            return cls(**known)
        except (ValueError, KeyError, TypeError) as error:
            raise ApercuError(f"the description of the pretrained encoder is damaged ({error})") from error

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def build(self) -> nn.Module:
        """The network with random weights.

        Raises:
            ApercuError: the library transformers is missing or does not know this network.
        """
        library = _library()
        try:
            with _quiet(library):
                return _without_pooler(library.AutoModel.from_config(library.AutoConfig.for_model(**self.config)))
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ApercuError(f"the encoder {self.source} cannot be built ({_first_line(error)})") from error

    def load(self) -> nn.Module:
        """The network with the weights of the checkpoint, in float32.

        Raises:
            ApercuError: they cannot be reached, are not in safetensors, or are not whole.
        """
        library, (folder, _) = _library(), _find(self.source)
        if not list(folder.glob("model*.safetensors")):
            raise ApercuError(
                f"{self.source} has no model.safetensors; weights in other files can run code when they are opened, "
                "so choose a checkpoint that has safetensors"
            )
        try:
            with _quiet(library):
                network, found = library.AutoModel.from_pretrained(
                    folder,
                    config=library.AutoConfig.for_model(**self.config),
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except Exception as error:  # the library raises many kinds
            raise ApercuError(f"the weights of {self.source} cannot be read ({_first_line(error)})") from error
        missing = [name for name in found["missing_keys"] if not name.startswith("pooler.")]
        missing += [str(name) for name in found["mismatched_keys"]]
        if missing:
            raise ApercuError(f"the weights of {self.source} are not whole: {sorted(missing)[0]} is missing")
        return _without_pooler(network).float()


def _look_up(source: str) -> Checkpoint:
    folder, pinned = _find(source)
    library = _library()
    try:
        with _quiet(library):
            config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        config = getattr(config, "vision_config", config)  # of an encoder of images and texts, the one of images
        plain = not images.get("do_normalize", True)
        return Checkpoint(
            pinned,
            _shape(config.to_dict()),
            _side(images),
            (0.0, 0.0, 0.0) if plain else tuple(images["image_mean"]),
            (1.0, 1.0, 1.0) if plain else tuple(images["image_std"]),
            images.get("resample") == BICUBIC,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ApercuError(f"{source} is not a checkpoint of a vision encoder ({_first_line(error)})") from error


def _find(source: str) -> tuple[Path, str]:
    """The folder of the checkpoint, downloaded where it is not here yet; and its name with its revision."""
    name = source.removeprefix("hf:")
    if name == source or not name:
        raise ApercuError(f"{source!r} is not a pretrained encoder; write hf:owner/name, or hf: and a folder")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, f"hf:{folder.resolve()}"
    if name[0] in "./~":
        raise ApercuError(f"there is no folder {name!r}; name the folder that holds config.json and model.safetensors")
    _library()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    owner_and_name, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(owner_and_name, revision=revision or None, allow_patterns=FILES))
    except HFValidationError as error:
        raise ApercuError(
            f"{source!r} is not a pretrained encoder; write hf:owner/name, or hf: and a folder"
        ) from error
    except RepositoryNotFoundError as error:
        raise ApercuError(f"huggingface.co has no public model {name}; check the name, or log in there") from error
    except LocalEntryNotFoundError as error:
        raise ApercuError(
            f"huggingface.co cannot be reached for {name}; fit once where there is a network, "
            "or download the model's files and give their folder: -s encoder=hf:/path/to/folder"
        ) from error
    except OSError as error:
        raise ApercuError(f"{name} cannot be downloaded ({_first_line(error)})") from error
    return folder, f"hf:{owner_and_name}@{folder.name}"


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration is the network's own: no labels, no file names, no choice of implementation."""
    kind = str(config["model_type"])
    if kind not in KINDS:
        raise ApercuError(f"encoders of the kind {kind} are not supported; choose one of: {', '.join(KINDS)}")
    library = _library()
    own = set(library.CONFIG_MAPPING[kind]().to_dict()) - set(library.PreTrainedConfig().to_dict())
    return {"model_type": kind} | {name: value for name, value in config.items() if name in own}


def _side(images: dict[str, Any]) -> int:
    """The height and width of the images that the encoder was trained with."""
    cropped = images.get("do_center_crop", True)
    for size in (images.get("crop_size") if cropped else None, images["size"]):
        found = size if isinstance(size, int) else (size or {}).get("height") or (size or {}).get("shortest_edge")
        if found:
            return int(found)
    raise ValueError("no size of images")


def _without_pooler(network: Any) -> nn.Module:  # noqa: ANN401 - what the library makes has no common type
    """Without the last layer that some checkpoints lack: the summary is then what that layer would have read."""
    if any(True for _ in getattr(network, "pooler", nn.Identity()).parameters()):
        network.pooler = None
    module: nn.Module = network
    return module


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise ApercuError("a pretrained encoder needs an extra: pip install 'apercu[hf]'") from None
    module: ModuleType = transformers
    return module


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Without the library's bars and its table of weights that were not used; what matters we say ourselves."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
