"""Bring a bundle of an older schema to the present one."""

import shutil
from pathlib import Path
from typing import Any

from data.atomic import atomic_folder, digest, write_text
from data.errors import InputError
from data.json_object import read_json_object
from mmlnb.bundle_agreement import bundle_taxonomy
from mmlnb.bundle_config import BundleConvertConfig
from mmlnb.bundle_files import INDEX, REMEDY, check_files
from mmlnb.bundles import SCHEMA, write_index
from mmlnb.model_card import model_card
from mmlnb.portable_settings import STAGES, write_portable

CONVERTED = 1
# What the index of that schema says, and the new one as well.
KEPT = {
    "model": str,
    "dtype": str,
    "decoding": dict,
    "target_mpp": int | float,
    "tile_px": int,
    "notice": str,
    "files": dict,
}


def bundle_convert(config: BundleConvertConfig) -> Path:
    """Write the bundle in `config.old` to `config.out` in the present schema and return its folder.

    Weights, taxonomy, prompt and figures are the same files. The card is written anew, paths of the machine that made
    it are taken out of the settings, and the hashes are those of the present schema.

    Raises:
        InputError: no bundle of an older schema, or one that was changed or whose parts do not belong together.
    """
    old, out = config.old, config.out
    if out.exists():
        raise InputError(f"{out}: exists already; choose another OUT or remove it")
    index = _old_index(old / INDEX)
    check_files(old, index["files"], hash_of=lambda path: digest(path.read_bytes()))
    with atomic_folder(out) as folder:
        for name in index["files"]:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            stage = name.removeprefix("config/").removesuffix(".yaml")
            if name.startswith("config/") and stage in STAGES:
                write_portable(old / name, target, stage=stage)
            else:
                shutil.copyfile(old / name, target)
        facts = {name: index[name] for name in ("model", "notice", "tile_px")}
        card = model_card(
            bundle_taxonomy(folder),
            read_json_object(folder / "metrics.json", remedy=REMEDY),
            mpp=index["target_mpp"],
            licence=config.licence,
            training_data=config.training_data,
            counts={},
            **facts,
        )
        write_text(folder / "README.md", card)
        facts |= {name: index[name] for name in ("dtype", "decoding", "target_mpp")}
        write_index(folder, **facts, licence=config.licence)
    print(f"Bundle: {out}, now of schema {SCHEMA}")
    return out


def _old_index(path: Path) -> dict[str, Any]:
    index = read_json_object(path, remedy="give the folder of a bundle")
    if index.get("schema") == SCHEMA:
        raise InputError(f"{path}: schema {SCHEMA}, which is the present one; use the bundle as it is")
    if index.get("schema") != CONVERTED:
        raise InputError(f"{path}: schema {index.get('schema')}, which is not known; a later mmlnb may know it")
    for name, kind in KEPT.items():
        if not isinstance(index.get(name), kind):
            raise InputError(f"{path}: not the index of a bundle ({name} is missing or of another kind); {REMEDY}")
    return index
