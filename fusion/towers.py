"""The registry of encoders, and the one way to a tower by name."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.atomic import write_json
from data.errors import InputError
from data.weight_files import check_weight_files
from fusion.image_encoders import IMAGE_TOWERS
from fusion.record import Modality, TowerRecord
from fusion.text_encoders import TEXT_TOWERS

if TYPE_CHECKING:
    from fusion.tower import ImageTower, TextTower

TOWERS = IMAGE_TOWERS + TEXT_TOWERS

OPEN_CLIP_CONFIG = "open_clip_config.json"

WEIGHT_FILES = {
    "timm": ("model.safetensors",),
    "open_clip": ("open_clip_model.safetensors",),
    "transformers": ("model.safetensors", "model.safetensors.index.json"),
    "package": ("model.safetensors", "pytorch_model.bin"),
}


def find_tower(name: str, *, modality: Modality, trusted: Sequence[str] = ()) -> TowerRecord:
    """Record of a registered tower, of `timm:NAME`, `open_clip:NAME` or `hf:NAME`, or of a model folder.

    Args:
        trusted: models whose own code may run; of those, a record of no registered tower says that it may be needed.

    Raises:
        InputError: no such tower; the nearest registered name is given.
    """
    known = {record.name: record for record in TOWERS if record.modality == modality}
    if name in known:
        return known[name]
    prefix, colon, rest = name.partition(":")
    if colon and rest:
        if prefix == "timm" and modality == "image":
            return TowerRecord(name=name, modality=modality, loader="timm", source=rest, licence="unknown")
        if prefix == "open_clip":
            return TowerRecord(name=name, modality=modality, loader="open_clip", source=rest, licence="unknown")
        if prefix == "hf":
            record = _transformers_record(name, source=rest, modality=modality)
            return replace(record, remote_code=is_trusted(record, trusted))
    if Path(name).is_dir():
        return _folder_record(Path(name), modality=modality)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    forms = "timm:NAME, open_clip:NAME, hf:NAME" if modality == "image" else "open_clip:NAME, hf:NAME"
    raise InputError(f"{modality} tower {name} is unknown; the nearest is {near}; {forms} or a model folder also work")


def is_trusted(record: TowerRecord, trusted: Sequence[str]) -> bool:
    """Whether `trusted` names the tower: by its name or that of its repository."""
    return not {record.name, record.source, record.repository}.isdisjoint(trusted)


def weights_present(record: TowerRecord) -> bool:
    """Whether the tower can be loaded without the network."""
    from huggingface_hub import try_to_load_from_cache

    if not record.has_weights or record.source.startswith("local-dir:") or Path(record.source).is_dir():
        return True
    repository = _repository(record)
    if repository is None:
        return False
    found = (try_to_load_from_cache(repository, file) for file in WEIGHT_FILES[record.loader])
    if not any(isinstance(path, str) for path in found):
        return False
    config = try_to_load_from_cache(repository, OPEN_CLIP_CONFIG) if record.loader == "open_clip" else None
    borrowed = text_repositories(Path(config).parent) if isinstance(config, str) else ()
    return all(isinstance(try_to_load_from_cache(name, "config.json"), str) for name in borrowed)


def text_repositories(folder: Path) -> tuple[str, ...]:
    """Repositories whose configuration and tokenizer the open_clip model in `folder` borrows for its text encoder."""
    try:
        text = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    names = (text.get("hf_model_name"), text.get("hf_tokenizer_name"))
    return tuple(dict.fromkeys(name for name in names if name and name.count("/") == 1))


def hub_repository(name: str) -> str | None:
    """Repository on the Hugging Face hub that holds the encoder `name`.

    A name that is no encoder and has the form OWNER/NAME stands for itself; None where there is nothing to fetch.
    """
    for modality in ("image", "text"):
        try:
            return _repository(find_tower(name, modality=modality))
        except InputError:
            continue
    return name if name.count("/") == 1 and not Path(name).exists() else None


def check_tower(record: TowerRecord, *, pretrained: bool = True, remote_code: bool = False) -> None:
    """Raise InputError when the tower cannot be used, before any work is done.

    Args:
        pretrained: whether its weights are needed.
        remote_code: whether code that comes with the weights may run.
    """
    if record.loader == "package":
        raise InputError(
            f"{record.modality} tower {record.name} can be loaded only by the package {record.package}, "
            "which is not used here; choose another tower (`mmlnb encoders` lists them)"
        )
    if record.remote_code and not remote_code:
        raise InputError(
            f"{record.modality} tower {record.name} runs code that comes with its weights; read it at "
            f"https://huggingface.co/{record.repository} and allow it with --trust_remote_code [{record.repository}], "
            "or choose another tower (`mmlnb encoders` lists them)"
        )
    if pretrained and record.has_weights:
        check_weights(record)


def check_weights(record: TowerRecord) -> None:
    """Raise InputError when the weights are not on this machine, or there as a pickle alone."""
    folder = _weights_folder(record)
    if folder is not None:
        check_weight_files(folder, str(folder) if record.repository is None else record.name)
    if weights_present(record):
        return
    licence = f" (accept its licence at https://huggingface.co/{record.repository} first)" if record.gated else ""
    raise InputError(
        f"weights of the {record.modality} tower {record.name} are not on this machine; "
        f"fetch them with `mmlnb prefetch {record.name}`{licence}"
    )


def load_image_tower(record: TowerRecord, *, pretrained: bool = True, remote_code: bool = False) -> "ImageTower":
    """Build an image tower, with its weights where it has some and `pretrained` is set.

    Args:
        remote_code: let code run that comes with the weights, where the record says that it is needed.

    Raises:
        InputError: the weights are not here or the name is unknown to the loader.
    """
    from fusion.tower import ImageTower

    tower = _load(record, pretrained=pretrained, remote_code=remote_code, texts=())
    assert isinstance(tower, ImageTower)
    return tower


def load_text_tower(
    record: TowerRecord, *, texts: Sequence[str], pretrained: bool = True, remote_code: bool = False
) -> "TextTower":
    """Build a text tower; a tokenizer without a vocabulary of its own is trained on `texts`.

    Args:
        remote_code: let code run that comes with the weights, where the record says that it is needed.

    Raises:
        InputError: the weights are not here or the name is unknown to the loader.
    """
    from fusion.tower import TextTower

    tower = _load(record, pretrained=pretrained, remote_code=remote_code, texts=texts)
    assert isinstance(tower, TextTower)
    return tower


def save_tower(tower: "ImageTower | TextTower", folder: Path) -> None:
    """Write what builds the tower again, without its weights: its record, and files of its loader."""
    from fusion.tower import TextTower

    folder.mkdir(parents=True, exist_ok=True)
    if tower.save_files is not None:
        tower.save_files(folder)
    if isinstance(tower, TextTower):
        tower.tokenizer.save(folder)
    write_json(folder / "tower.json", {"record": asdict(tower.record), "build": tower.build})


def rebuild_tower(folder: Path, *, trusted: Sequence[str] = ()) -> "ImageTower | TextTower":
    """Build a tower from the folder that `save_tower` wrote; its weights are yet to be loaded.

    Args:
        trusted: models whose own code may run; no file of the folder can say so.

    Raises:
        InputError: the folder does not hold a tower.
    """
    try:
        content = json.loads((folder / "tower.json").read_text(encoding="utf-8"))
        fields = content["record"]
        for colour in ("mean", "std"):
            fields[colour] = tuple(fields[colour]) if fields[colour] else None
        record = TowerRecord(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'tower.json'}: not a saved tower ({error}); train the model again") from error
    if record.remote_code and not is_trusted(record, trusted):
        raise InputError(
            f"{folder}: {record.name} runs code of its own, which no saved model may by itself; allow it with "
            f"--trust_remote_code [{record.repository}], or train another tower"
        )
    if record.loader == "timm":
        from fusion.timm_tower import rebuild_timm

        return rebuild_timm(record, content["build"])
    if record.loader == "open_clip":
        from fusion.open_clip_tower import rebuild_open_clip

        return rebuild_open_clip(record, folder)
    from fusion.transformers_tower import rebuild_transformers_image, rebuild_transformers_text

    return (rebuild_transformers_image if record.modality == "image" else rebuild_transformers_text)(record, folder)


def _load(
    record: TowerRecord, *, pretrained: bool, remote_code: bool, texts: Sequence[str]
) -> "ImageTower | TextTower":
    check_tower(record, pretrained=pretrained, remote_code=remote_code)
    pretrained = pretrained and record.has_weights
    try:
        if record.loader == "timm":
            from fusion.timm_tower import load_timm

            return load_timm(record, pretrained=pretrained)
        if record.loader == "open_clip":
            from fusion.open_clip_tower import load_open_clip

            return load_open_clip(record, pretrained=pretrained)
        from fusion.transformers_tower import load_transformers_image, load_transformers_text

        if record.modality == "image":
            return load_transformers_image(record, pretrained=pretrained)
        return load_transformers_text(record, pretrained=pretrained, texts=texts)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if "trust_remote_code" in reason:
            raise InputError(
                f"{record.modality} tower {record.name} runs code that comes with its weights; read it, then allow it "
                f"with --trust_remote_code [{record.source}], or choose another tower"
            ) from error
        raise InputError(
            f"{record.modality} tower {record.name} cannot be loaded ({reason}); check the name"
        ) from error


def _weights_folder(record: TowerRecord) -> Path | None:
    """Folder on this machine that holds the weights, in whatever form; None where they are not here."""
    from huggingface_hub import try_to_load_from_cache

    folder, repository = Path(record.source.removeprefix("local-dir:")), _repository(record)
    if not record.has_weights or folder.is_dir():
        return folder if record.has_weights else None
    names = (*WEIGHT_FILES[record.loader], "pytorch_model.bin", "open_clip_pytorch_model.bin") if repository else ()
    found = (try_to_load_from_cache(str(repository), name) for name in names)
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _repository(record: TowerRecord) -> str | None:
    """Repository of the weights, also where open_clip knows it by a model's name and tag (`NAME@TAG`)."""
    if record.repository is None and record.loader == "open_clip" and ":" not in record.source:
        import open_clip

        name, _, tag = record.source.partition("@")
        return (open_clip.get_pretrained_cfg(name, tag).get("hf_hub") or "").rstrip("/") or None
    return record.repository


def _transformers_record(name: str, *, source: str, modality: Modality) -> TowerRecord:
    return TowerRecord(
        name=name,
        modality=modality,
        loader="transformers",
        source=source,
        licence="unknown",
    )


def _folder_record(folder: Path, *, modality: Modality) -> TowerRecord:
    source = f"local-dir:{folder.resolve()}"
    empty = TowerRecord(name=str(folder), modality=modality, loader="open_clip", source=source, licence="unknown")
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return empty
    config = folder / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{config}: cannot be read ({error}); give a folder that holds a saved model") from error
    if "architecture" in content and modality == "image":
        return replace(empty, loader="timm")
    if "model_type" in content:
        return _transformers_record(str(folder), source=str(folder.resolve()), modality=modality)
    raise InputError(f"{config}: names neither a timm architecture nor a transformers model; give another folder")
