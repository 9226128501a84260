"""Bundles to and from the hub; the only things here reach the network, and only when they are called."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.atomic import atomic_folder
from data.errors import InputError
from mmlnb.bundle_config import BundlePullConfig, BundlePushConfig
from mmlnb.bundle_files import INDEX
from mmlnb.bundles import load_bundle
from mmlnb.hub_cache import HUB, repository_and_revision


def bundle_push(config: BundlePushConfig) -> str:
    """Upload a bundle, its card included, and return the address of the repository.

    Files of an earlier bundle in the repository are removed by the same commit.

    Raises:
        InputError: no sound bundle, one that needs a model of this machine, a public repository that was not asked for,
            or a hub that cannot be reached or refuses.
    """
    repository, revision = repository_and_revision(config.repository)
    if revision:
        raise InputError(f"{config.repository}: a push makes a revision of its own; give OWNER/NAME")
    bundle = load_bundle(config.bundle)
    if Path(bundle.index.model).is_dir():
        raise InputError(
            f"{config.bundle}: its base model is the folder {bundle.index.model} of this machine, which nobody else "
            "has; fine-tune a model that has a name on the hub"
        )
    from huggingface_hub import HfApi

    api = HfApi()
    with _one_line(repository):
        # An existing repository keeps its visibility whatever is asked for here.
        api.create_repo(repository, private=not config.public, exist_ok=True)
        if not config.public and not api.model_info(repository).private:
            raise InputError(
                f"{repository}: is public already; give --public, or another name for a private repository"
            )
        api.upload_folder(
            repo_id=repository,
            folder_path=bundle.folder,
            allow_patterns=[INDEX, *bundle.index.files],
            delete_patterns="*",
            commit_message=f"Bundle {bundle.key[:8]}",
        )
    address = f"{api.endpoint}/{repository}"
    print(address)
    return address


def bundle_pull(config: BundlePullConfig) -> Path:
    """Download a bundle, check it, and return the folder that it was copied to.

    Raises:
        InputError: no such repository, a hub that cannot be reached, or no sound bundle in it.
    """
    if config.out.exists():
        raise InputError(f"{config.out}: exists already; choose another OUT or remove it")
    from huggingface_hub import snapshot_download

    repository, revision = repository_and_revision(config.repository)
    with _one_line(repository):
        snapshot = Path(snapshot_download(repository, revision=revision))
    # By its commit, so that what is checked is what was fetched.
    bundle = load_bundle(f"{HUB}{repository}@{snapshot.name}")
    with atomic_folder(config.out) as folder:
        for name in (INDEX, *bundle.index.files):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, folder / name)
    print(f"Bundle: {config.out}; offline also {HUB}{config.repository}")
    return config.out


@contextmanager
def _one_line(repository: str) -> Iterator[None]:
    """Turn what the hub may answer into one line that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, which forbids the network; unset it for this command")
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repository}: nobody is logged in; `hf auth login`, and try again") from error
    except GatedRepoError as error:
        raise InputError(
            f"{repository}: gated; accept its licence at huggingface.co/{repository}, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repository}: has no such revision; give one that its history on the hub lists") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{repository}: the hub shows no repository of this name; check it, and `hf auth login` where it is private"
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "none")
        said = " ".join(str(error).split())[:160]
        raise InputError(
            f"{repository}: the hub refused ({status}: {said}); check the name and `hf auth whoami`"
        ) from error
    except (OSError, HTTPError) as error:
        raise InputError(
            f"{repository}: the hub cannot be reached ({type(error).__name__}); try again online"
        ) from error
