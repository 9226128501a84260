"""Settings of the commands that make bundles and pass them on."""

from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError

EMBEDDED_FOLDER = Path(__file__).parent / "embedded_bundle"
"""The bundle that comes with the package."""


@dataclass(frozen=True, kw_only=True)
class BundleMakeConfig:
    """Gather everything that slide inference needs in one folder: no pickle, every file with its hash."""

    out: Path
    """Bundle folder to make."""
    run: Path | None = None
    """Run folder as `mmlnb demo` leaves it: patches.parquet, finetune/, captions/, train/ and evaluate/."""
    manifest: Path | None = None
    """Manifest the models were trained on, where it is not patches.parquet in the run; gives patch size and mpp."""
    finetune: Path | None = None
    """Folder that `finetune` wrote, where it lies elsewhere."""
    caption: Path | None = None
    """Folder that `caption` wrote, where it lies elsewhere; gives the decoding."""
    train: Path | None = None
    """Folder that `train` wrote, where it lies elsewhere."""
    evaluate: Path | None = None
    """Folder that `evaluate` wrote, where it lies elsewhere; gives the metrics on the card."""
    notice: str = ""
    """What every output made with the bundle must say, e.g. on what tissue it was trained."""
    training_data: str = ""
    """Where the training data come from, for the card; how many they are is counted."""
    licence: str = "other"
    """Licence of the bundle as the hub spells it, e.g. apache-2.0 or cc-by-nc-4.0."""

    def stage(self, name: str) -> Path:
        """Where the outputs of a stage lie: as given, or else in the run folder.

        Raises:
            InputError: neither is given.
        """
        given: Path | None = getattr(self, name)
        if given is not None:
            return given
        if self.run is None:
            raise InputError(f"--{name} is not given, and no run folder either; give RUN or all of the single folders")
        return self.run / {"manifest": "patches.parquet", "caption": "captions"}.get(name, name)


@dataclass(frozen=True, kw_only=True)
class BundlePushConfig:
    """Upload a bundle to the hub, with its card; the repository is private unless `--public` is given."""

    bundle: Path
    """Bundle folder."""
    repository: str
    """OWNER/NAME on the hub; made where it does not exist."""
    public: bool = False
    """Let everybody see it; a repository that is public already takes nothing without."""


@dataclass(frozen=True, kw_only=True)
class BundlePullConfig:
    """Download a bundle from the hub into a folder and check it; then `--bundle hf:OWNER/NAME` works offline too."""

    repository: str
    """OWNER/NAME on the hub, or OWNER/NAME@REVISION."""
    out: Path
    """Bundle folder to make."""


@dataclass(frozen=True, kw_only=True)
class BundleConvertConfig:
    """Bring a bundle of an older schema to the present one; its weights and figures stay as they are."""

    old: Path
    """Bundle folder of an older schema."""
    out: Path
    """Bundle folder to make."""
    licence: str = "other"
    """Licence of the bundle as the hub spells it; the older schema named none."""
    training_data: str = ""
    """Where the training data come from, for the card."""


@dataclass(frozen=True, kw_only=True)
class BuildEmbeddedConfig:
    """Run the demo and put its bundle where the package has its own."""

    run: Path | None = None
    """Folder of the demo; one that is finished is not run again. A temporary one where it is not given."""
    out: Path = EMBEDDED_FOLDER
    """Folder of the bundle; what is there is replaced."""
