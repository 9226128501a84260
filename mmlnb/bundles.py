"""The bundle: one folder with everything that slide inference needs, each file with its hash."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from data.atomic import atomic_folder, digest, write_json, write_text
from data.errors import InputError
from data.manifest import read_manifest
from data.taxonomy import Taxonomy, load_taxonomy
from fusion.config import EvaluateConfig
from fusion.evaluate import evaluation_key
from mmlnb.config import BundleConfig
from mmlnb.model_card import model_card
from mmlnb.stain_reference import HELD_OUT, write_held_out

if TYPE_CHECKING:
    from fusion.predictor import Predictor
    from vlm_finetune.captioner import Captioner

SCHEMA = 1
INDEX = "bundle.json"
DECODING = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "max_repeats", "seed")


@dataclass(frozen=True, kw_only=True)
class BundleIndex:
    """What bundle.json says."""

    schema: int
    model: str
    """Base vision-language model, by name."""
    dtype: str
    """Arithmetic of the model: float32, bfloat16, float16 or auto."""
    decoding: dict[str, float]
    """How captions are drawn from the model: the fields of `vlm_finetune.generate.Decoding`."""
    target_mpp: float
    """µm per pixel of the patches that the models were trained on."""
    tile_px: int
    """Side of those patches in pixels."""
    notice: str
    """What every page made with the bundle says."""
    files: dict[str, str]
    """Relative path of every file to its hash."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle folder."""

    folder: Path
    index: BundleIndex
    taxonomy: Taxonomy
    key: str
    """Hash over all files: what a prediction depends on."""

    def predictor(self, *, device: str) -> "Predictor":
        """Towers and PRMF, ready to predict."""
        from fusion.predictor import Predictor

        return Predictor.load(self.folder / "fusion", device=device)

    def captioner(self, *, device: str, batch_size: int) -> "Captioner":
        """Base model with the bundle's adapter, ready to describe."""
        from vlm_finetune.captioner import Captioner, Decoding

        return Captioner(
            model=self.index.model,
            adapter=self.folder / "adapter",
            taxonomy=self.taxonomy,
            decoding=Decoding(**self.index.decoding),  # type: ignore[arg-type]
            batch_size=batch_size,
            device=device,
            dtype=self.index.dtype,
        )


def bundle(config: BundleConfig) -> Path:
    """Gather the outputs of the stages into a bundle and return its folder.

    Raises:
        InputError: a stage's output is missing, or patches differ in size or resolution.
    """
    if config.out.exists():
        raise InputError(f"{config.out}: exists already; choose another --out or remove it")
    mpp, tile_px = _patch_geometry(config.manifest)
    sources = {
        "adapter": config.finetune / "adapter",
        "adapter/prompt.json": config.finetune / "prompt.json",
        "fusion/model": config.train / "model",
        "fusion/calibration.json": config.train / "calibration.json",
        "taxonomy.yaml": config.train / "taxonomy.yaml",
        "metrics.json": config.evaluate / "metrics.json",
        "config/finetune.yaml": config.finetune / "config.yaml",
        "config/caption.yaml": config.caption / "config.yaml",
        "config/train.yaml": config.train / "config.yaml",
        "config/evaluate.yaml": config.evaluate / "config.yaml",
    }
    for source in sources.values():
        if not source.exists():
            raise InputError(f"{source}: missing; run the stage that writes it before the bundle is made")
    _check_evaluation(config)
    with atomic_folder(config.out) as folder:
        _gather(sources, folder)
        _describe(config, folder, mpp=mpp, tile_px=tile_px)
    return config.out


def _check_evaluation(config: BundleConfig) -> None:
    """Refuse figures that were measured on another model, other patches or other captions."""
    metrics = json.loads((config.evaluate / "metrics.json").read_text(encoding="utf-8"))
    settings = yaml.safe_load((config.evaluate / "config.yaml").read_text(encoding="utf-8"))
    evaluation = EvaluateConfig(
        model=config.train,
        manifest=config.manifest,
        out=config.evaluate,
        captions=config.caption if settings["captions"] else None,
        text_source=settings["text_source"],
        split=settings["split"],
    )
    if metrics["key"] != evaluation_key(evaluation):
        raise InputError(
            f"{config.evaluate}: measured another model, manifest or captions than those given; evaluate these first"
        )


def _gather(sources: dict[str, Path], folder: Path) -> None:
    for name, source in sources.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def _describe(config: BundleConfig, folder: Path, *, mpp: float, tile_px: int) -> None:
    """Write the model card, what was tested on, and last the index with the hash of every file."""
    captioning = yaml.safe_load((config.caption / "config.yaml").read_text(encoding="utf-8"))
    taxonomy = load_taxonomy(folder / "taxonomy.yaml")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    model = captioning["model"]
    card = model_card(taxonomy, metrics, model=model, mpp=mpp, tile_px=tile_px, notice=config.notice)
    write_text(folder / "README.md", card)
    write_held_out(folder / HELD_OUT, config.manifest, split=metrics["split"])
    index = BundleIndex(
        schema=SCHEMA,
        model=model,
        dtype=captioning["dtype"],
        # Captions of before a setting existed were written with its default.
        decoding={name: captioning[name] for name in DECODING if name in captioning},
        target_mpp=mpp,
        tile_px=tile_px,
        notice=config.notice,
        files={path.relative_to(folder).as_posix(): _file_key(path) for path in _files(folder)},
    )
    write_json(folder / INDEX, asdict(index))


def load_bundle(folder: Path) -> Bundle:
    """Check the bundle in `folder` and return it; no model is loaded yet.

    Raises:
        InputError: no bundle, one of another schema, or a file that is missing, changed or a pickle.
    """
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{folder}: holds no bundle ({INDEX} is missing); make one with `mmlnb bundle` or `make demo`")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") != SCHEMA:
            raise InputError(f"{path}: schema {content.get('schema')}, expected {SCHEMA}; make the bundle again")
        index = BundleIndex(**content)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not the index of a bundle ({error}); make the bundle again") from error
    for name, expected in index.files.items():
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file}: missing from the bundle; make the bundle again")
        if _file_key(file) != expected:
            raise InputError(f"{file}: was changed after the bundle was made; make the bundle again")
    for file in _files(folder):
        if file.suffix in {".pt", ".pth", ".pkl", ".bin", ".ckpt"}:
            raise InputError(f"{file}: a pickle, which a bundle may not hold; remove it")
    return Bundle(
        folder=folder,
        index=index,
        taxonomy=load_taxonomy(folder / "taxonomy.yaml"),
        key=digest(
            *(f"{name} {key}" for name, key in sorted(index.files.items())),
            index.model,
            index.dtype,
            json.dumps(index.decoding),
        ),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != INDEX)


def _file_key(path: Path) -> str:
    return digest(path.read_bytes())


def _patch_geometry(manifest: Path) -> tuple[float, int]:
    """Resolution (µm/px) and side (px) that all patches of the manifest share."""
    frame = read_manifest(manifest)
    mpps, sizes = frame["mpp"].dropna().unique(), frame["size_px"].unique()
    if len(mpps) != 1 or len(sizes) != 1:
        raise InputError(
            f"{manifest}: slides need one patch size and one mpp, found sizes {sorted(map(int, sizes))} and mpp "
            f"{sorted(map(float, mpps)) or 'none'}; give all patches the same"
        )
    return float(mpps[0]), int(sizes[0])
