"""The bundle: one folder with everything that slide inference needs, each file with its hash."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from data.atomic import digest, write_json
from data.errors import InputError
from data.json_object import read_json_object
from data.taxonomy import Taxonomy
from mmlnb import __version__
from mmlnb.bundle_agreement import bundle_taxonomy, check_agreement
from mmlnb.bundle_config import EMBEDDED_FOLDER
from mmlnb.bundle_files import INDEX, REMEDY, check_files, hash_files
from mmlnb.hub_cache import HUB, CachedBundle, find_cached

if TYPE_CHECKING:
    from fusion.predictor import Predictor
    from vlm_finetune.captioner import Captioner

SCHEMA = 2
EMBEDDED = "embedded"
DECODING = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "max_repeats", "seed")


@dataclass(frozen=True, kw_only=True)
class BundleIndex:
    """What bundle.json says."""

    schema: int
    made_with: str
    """Version of the package that made it."""
    model: str
    """Base vision-language model, by name."""
    dtype: str
    """Arithmetic of the model: float32, bfloat16, float16 or auto."""
    decoding: dict[str, float]
    """How captions are drawn from the model: the fields of `vlm_finetune.generate.Decoding`."""
    prompt: str
    """Key of the prompt that the adapter answers."""
    image_dim: int
    """Features of the image tower."""
    text_dim: int
    """Features of the text tower."""
    target_mpp: float
    """µm per pixel of the patches that the models were trained on."""
    tile_px: int
    """Side of those patches in pixels."""
    notice: str
    """What every output made with the bundle says."""
    licence: str
    """As the hub spells it."""
    files: dict[str, str]
    """Relative path of every file to its SHA-256."""
    key: str = ""
    """Hash over all of the above: what a prediction depends on."""

    @property
    def own_key(self) -> str:
        """What `key` must be."""
        content = {name: value for name, value in asdict(self).items() if name != "key"}
        return digest(json.dumps(content, sort_keys=True))


@dataclass(frozen=True)
class Bundle:
    """A checked bundle folder."""

    folder: Path
    index: BundleIndex
    taxonomy: Taxonomy

    @property
    def key(self) -> str:
        """Hash over everything in it: what a prediction depends on."""
        return self.index.key

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


def write_index(folder: Path, **facts: Any) -> None:
    """Check the files that were gathered in `folder` and write its index, last of all.

    `facts` are the fields of `BundleIndex` that the files do not tell.

    Raises:
        InputError: the files do not belong together, or one is of a kind that a bundle may not hold.
    """
    found = check_agreement(folder, bundle_taxonomy(folder))
    for path in folder.rglob("*"):
        # safetensors keeps its files to their owner; these are meant for others.
        path.chmod(0o755 if path.is_dir() else 0o644)
    index = BundleIndex(
        schema=SCHEMA, made_with=f"mmlnb {__version__}", **asdict(found), **facts, files=hash_files(folder)
    )
    write_json(folder / INDEX, asdict(index) | {"key": index.own_key})


def find_bundle(source: str | Path) -> CachedBundle:
    """Folder of a bundle that is named as on the command line: a folder, `hf:OWNER/NAME` or `embedded`.

    Raises:
        InputError: no such folder, or a repository that is not in the hub's cache.
    """
    if str(source) == EMBEDDED:
        return CachedBundle(EMBEDDED_FOLDER)
    if str(source).startswith(HUB):
        return find_cached(str(source).removeprefix(HUB))
    return CachedBundle(Path(source))


def load_bundle(source: str | Path = EMBEDDED) -> Bundle:
    """Check a bundle and return it; no model is loaded yet, and nothing is downloaded.

    Args:
        source: a folder, `hf:OWNER/NAME` from the hub's cache, or `embedded` for the one in the package.

    Raises:
        InputError: no bundle, one of another schema, a file that is missing, changed, added, a link or a pickle, or
            parts that do not belong together.
    """
    found = find_bundle(source)
    folder = found.folder
    path = folder / INDEX
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no bundle ({INDEX} is missing); make one with `mmlnb bundle make` or `mmlnb demo`"
        )
    index = _index(path)
    check_files(folder, index.files, store=found.store)
    if index.own_key != index.key:
        raise InputError(f"{path}: was changed after the bundle was made; {REMEDY}")
    taxonomy = bundle_taxonomy(folder)
    facts = check_agreement(folder, taxonomy)
    for name, value in asdict(facts).items():
        if getattr(index, name) != value:
            raise InputError(f"{path}: {name} is {getattr(index, name)}, but the files say {value}; {REMEDY}")
    return Bundle(folder=folder, index=index, taxonomy=taxonomy)


def _index(path: Path) -> BundleIndex:
    content = read_json_object(path, remedy=REMEDY)
    schema = content.get("schema")
    if isinstance(schema, int) and schema < SCHEMA:
        raise InputError(
            f"{path}: schema {schema}, expected {SCHEMA}; bring it up to date with `mmlnb bundle convert "
            f"{path.parent} NEW`"
        )
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema}, expected {SCHEMA}; it is of a later mmlnb than this one: update it")
    if different := {field.name for field in fields(BundleIndex)} ^ set(content):
        odd = sorted(different)[0]
        raise InputError(
            f"{path}: not the index of a bundle ({odd!r} is {'unknown' if odd in content else 'missing'}); {REMEDY}"
        )
    for name, kind in get_type_hints(BundleIndex).items():
        if not _is(content[name], kind):
            raise InputError(f"{path}: {name} is {json.dumps(content[name])[:60]}, expected another kind; {REMEDY}")
    index = BundleIndex(**content)
    if not (math.isfinite(index.target_mpp) and index.target_mpp > 0):
        raise InputError(f"{path}: target_mpp is {index.target_mpp}, expected µm per pixel above 0; {REMEDY}")
    if index.tile_px < 1:
        raise InputError(f"{path}: tile_px is {index.tile_px}, expected pixels above 0; {REMEDY}")
    if odd_names := sorted(set(index.decoding) - set(DECODING)):
        raise InputError(f"{path}: decoding has {odd_names[0]!r}, expected {', '.join(DECODING)}; {REMEDY}")
    return index


def _is(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of the type of a field: a number, a string, or a dictionary of either."""
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(entry, get_args(kind)[1]) for entry in value.values())
    if kind is float:
        kind = int | float
    return isinstance(value, kind) and not isinstance(value, bool)
