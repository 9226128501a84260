"""The arms of an ablation: what each of them trains, as data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.errors import InputError
from fusion.config import BlockName, TrainConfig
from fusion.curriculum import Stage
from mmlnb.config import AblateConfig, ArmName, TextName

IMAGE_ARM: ArmName = "image-only"
"""What every other arm is compared with."""
MAIN_ARM: ArmName = "prmf"
"""The arm whose slides are shown by every vote."""

CAPTIONS: dict[TextName, str] = {
    "crossfitted": "crossfitted_captions",
    "finetuned": "captions",
    "base": "base_captions",
}
"""The setting that gives each text, in the order in which `--text auto` looks for them."""


@dataclass(frozen=True)
class Variant:
    """What is trained. Arms that come to the same thing share its runs."""

    block: BlockName
    text: TextName | Literal["none", "any"]
    """Whose captions; `any` is the text of the arms that do not name one."""
    curriculum: bool = True

    @property
    def name(self) -> str:
        """Name of the folder of its runs."""
        parts = [self.block, *([] if self.text == "none" else [f"{self.text}-text"])]
        return "-".join([*parts, *([] if self.curriculum else ["no-curriculum"])])

    def settings(self, ground: TrainConfig, *, captions: Path | None) -> TrainConfig:
        """`ground` with what this variant changes; `captions` is the folder of its text."""
        changes: dict[str, Any] = {"block": self.block, "captions": captions}
        changes["text_source"] = "none" if self.text == "none" else "captions"
        if not self.curriculum:
            changes["stages"] = (all_at_once(ground.stages),)
        settings = replace(ground, **changes)
        return settings.as_published() if self.block == "prmf-paper" else settings


_ARMS: dict[ArmName, Variant] = {
    "image-only": Variant("image-only", "none"),
    "text-only": Variant("text-only", "any"),
    "base-text": Variant("prmf", "base"),
    "finetuned-text": Variant("prmf", "finetuned"),
    "crossfitted-text": Variant("prmf", "crossfitted"),
    "concatenation": Variant("concatenation", "any"),
    "prmf-paper": Variant("prmf-paper", "any"),
    "prmf": Variant("prmf", "any"),
    "no-curriculum": Variant("prmf", "any", curriculum=False),
}


@dataclass(frozen=True)
class Arms:
    """The arms that can be run with the captions that are given."""

    variants: dict[ArmName, Variant]
    text: TextName | None
    """Text of the arms that do not name one; None where no captions are given."""
    captions: dict[str, Path]
    """Folder by text; `none` has none."""
    left_out: dict[ArmName, str]
    """Why an arm that was asked for is not run."""


def choose_arms(config: AblateConfig) -> Arms:
    """Find out what each arm of `config` trains, and which of them lack their captions.

    Raises:
        InputError: no arm is left, or `--text` names captions that are not given.
    """
    given = {text: folder for text, name in CAPTIONS.items() if (folder := getattr(config, name)) is not None}
    if config.text != "auto" and config.text not in given:
        raise InputError(f"--text {config.text}: needs --{CAPTIONS[config.text]}, the folder of these captions")
    usual = next(iter(given), None) if config.text == "auto" else config.text
    variants: dict[ArmName, Variant] = {}
    left_out: dict[ArmName, str] = {}
    for arm in config.arms:
        variant = _ARMS[arm]
        if variant.text == "any" and usual is not None:
            variant = replace(variant, text=usual)
        if variant.text == "any":
            left_out[arm] = "no captions were given"
        elif variant.text != "none" and variant.text not in given:
            left_out[arm] = f"--{CAPTIONS[variant.text]} was not given"
        else:
            variants[arm] = variant
    if not variants:
        raise InputError(
            f"--arms [{','.join(config.arms)}]: none of them can be run, since their captions are not given; give "
            f"{', '.join(f'--{name}' for name in CAPTIONS.values())} or some of these"
        )
    captions = {str(text): folder for text, folder in given.items()}
    return Arms(variants=variants, text=usual, captions=captions, left_out=left_out)


def all_at_once(stages: Sequence[Stage]) -> Stage:
    """One stage in place of the curriculum: as many epochs, nothing frozen, the fused loss from the first epoch on.

    The learning rates are those of the longest stage that trains both towers, or else of the run.
    """
    joint = max((stage for stage in stages if not stage.freeze), key=lambda stage: stage.epochs, default=None)
    return Stage(
        name="all at once",
        epochs=sum(stage.epochs for stage in stages),
        alpha_from=1.0,
        learning_rate=joint.learning_rate if joint else None,
        image_learning_rate=joint.image_learning_rate if joint else None,
        text_learning_rate=joint.text_learning_rate if joint else None,
    )
