"""Rebuild the embedded bundle: `python -m mmlnb.build_embedded`, the demo from its seed, some minutes on two cores."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from data.command import run_command
from data.errors import InputError
from mmlnb.bundles import EMBEDDED_FOLDER, load_bundle
from mmlnb.config import DemoConfig
from mmlnb.demonstration import demo


@dataclass(frozen=True, kw_only=True)
class BuildEmbeddedConfig:
    """Run the demo and put its bundle where the package has its own."""

    run: Path | None = None
    """Folder of the demo; one that is finished is not run again. A temporary one where it is not given."""
    out: Path = EMBEDDED_FOLDER
    """Folder of the bundle; what is there is replaced."""


def build_embedded(config: BuildEmbeddedConfig) -> Path:
    """Run the demo with its own settings, copy its bundle to `config.out` and return that folder.

    Raises:
        InputError: a stage failed, or `config.out` holds something else than a bundle.
    """
    if config.out.exists() and not (config.out / "bundle.json").is_file():
        raise InputError(f"{config.out}: exists and is no bundle; choose another --out or remove it")
    with tempfile.TemporaryDirectory(prefix="mmlnb-embedded-") as temporary:
        run = config.run or Path(temporary) / "demo"
        demo(DemoConfig(out=run))
        bundle = load_bundle(run / "bundle")
        if config.out.exists():
            shutil.rmtree(config.out)
        shutil.copytree(bundle.folder, config.out)
    print(f"{config.out}: {load_bundle(config.out).key}")
    return config.out


if __name__ == "__main__":
    raise SystemExit(run_command(build_embedded, BuildEmbeddedConfig, name="build-embedded"))
