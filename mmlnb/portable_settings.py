"""Settings of a stage as others may read them: what was set, and not where things lay on this machine."""

from pathlib import Path, PurePath
from typing import Any, get_args, get_type_hints

import yaml

from data.atomic import write_text
from data.errors import InputError
from fusion.config import EvaluateConfig, TrainConfig
from vlm_finetune.config import CaptionConfig, FinetuneConfig

STAGES = {"finetune": FinetuneConfig, "caption": CaptionConfig, "train": TrainConfig, "evaluate": EvaluateConfig}


def write_portable(source: Path, target: Path, *, stage: str) -> None:
    """Write the settings in `source` (YAML) of `stage` to `target`, of every path only its last part.

    Raises:
        InputError: `source` holds no settings.
    """
    try:
        settings = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: not valid YAML ({type(error).__name__}); run the stage again") from error
    if not isinstance(settings, dict):
        raise InputError(f"{source}: holds no settings; run the stage again")
    paths = {name for name, kind in get_type_hints(STAGES[stage]).items() if Path in (kind, *get_args(kind))}
    portable = {name: _portable(value, is_path=name in paths) for name, value in settings.items()}
    write_text(target, yaml.safe_dump(portable, sort_keys=False, allow_unicode=True))


def _portable(value: Any, *, is_path: bool) -> Any:
    """A model or a taxonomy may be a name or a path; an absolute one is taken for a path."""
    if isinstance(value, list):
        return [_portable(entry, is_path=is_path) for entry in value]
    if isinstance(value, str) and (is_path or PurePath(value).is_absolute()):
        return PurePath(value).name
    return value
