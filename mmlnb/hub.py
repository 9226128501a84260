"""Download models by name, so that everything else runs with the hub offline."""

from pathlib import Path
from typing import Any

from data.command import make_config, preset_names
from data.errors import InputError
from mmlnb.config import PrefetchConfig

# Weights that torch does not read.
OTHER_FRAMEWORKS = ["*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "*.gguf", "onnx/*", "openvino/*"]


def prefetch(config: PrefetchConfig) -> None:
    """Fetch a hub model, a registered encoder, or all that a preset names, into the hub's cache.

    Weights that come as a pickle are written as safetensors beside it, also in a folder that is named in place of a
    model; nothing else reads pickles.

    Raises:
        InputError: the name is unknown, the hub cannot be reached, the model is gated, or a pickle holds more than
            tensors.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    from fusion.towers import text_repositories
    from mmlnb.safe_weights import write_safetensors

    if Path(config.model).is_dir():
        for file in write_safetensors(Path(config.model)):
            print(f"Written as safetensors: {file}")
        return

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, which forbids every download; unset it for this command")
    for name in repositories(config.model):
        print(f"Fetching {name}")
        try:
            folder = snapshot_download(name, ignore_patterns=OTHER_FRAMEWORKS)
            print(folder)
            for file in write_safetensors(Path(folder)):
                print(f"Written as safetensors: {file}")
            for borrowed in text_repositories(Path(folder)):
                print(f"Fetching configuration and tokenizer of {borrowed}")
                snapshot_download(borrowed, allow_patterns=["*.json", "*.txt"])
        except GatedRepoError as error:
            raise InputError(
                f"{name}: gated; accept its licence at huggingface.co/{name}, then `hf auth login` and try again"
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise InputError(f"{name}: the hub has no model of this name; give OWNER/NAME") from error
        except (HfHubHTTPError, OSError) as error:
            raise InputError(f"{name}: the hub cannot be reached ({type(error).__name__}); try again online") from error


def repositories(name: str) -> list[str]:
    """Hub repositories that `name` stands for: those of a preset, of a registered encoder, or itself."""
    from fusion.config import TrainConfig
    from fusion.towers import hub_repository
    from vlm_finetune.config import FinetuneConfig

    wanted: list[str] = []
    preset_of: list[tuple[Any, str, tuple[str, ...]]] = [
        (FinetuneConfig, "finetune", ("model",)),
        (TrainConfig, "train", ("image_tower", "text_tower")),
    ]
    for config_class, command, fields in preset_of:
        if name in preset_names(config_class, command):
            settings = make_config(config_class, name=command, config=name, manifest="-", out="-")
            wanted += [getattr(settings, field) for field in fields]
    found = [repository for entry in wanted or [name] if (repository := hub_repository(entry)) is not None]
    if not found:
        raise InputError(f"{name}: nothing to fetch, it is embedded in the package")
    return list(dict.fromkeys(found))
