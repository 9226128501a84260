"""Rebuild the embedded bundle: `python -m mmlnb.build_embedded`, the demo from its seed, some minutes on two cores."""

import shutil
import tempfile
from pathlib import Path

from data.command import run_command
from data.errors import InputError
from mmlnb.bundle_config import BuildEmbeddedConfig
from mmlnb.bundles import load_bundle
from mmlnb.config import DemoConfig
from mmlnb.demonstration import demo


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
