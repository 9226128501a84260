"""A bundle goes to a hub and comes back the same; the network is used by name only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, fake_hub

from mmlnb.bundles import EMBEDDED_FOLDER, load_bundle

Mmlnb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub without any repository."""
    with fake_hub() as found:
        yield found


@pytest.fixture
def mmlnb(hub: FakeHub, tmp_path: Path) -> Mmlnb:
    """Runs the command line with an empty cache, `offline` or not."""

    def run(*arguments: object, offline: bool = False) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_" + "a" * 34}
        environment = os.environ | settings | {"HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "mmlnb", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)

    return run


def test_a_bundle_comes_back_from_the_hub_as_it_was_pushed_and_is_found_offline_from_then_on(
    hub: FakeHub, mmlnb: Mmlnb, tmp_path: Path
) -> None:
    pushed = mmlnb("bundle", "push", EMBEDDED_FOLDER, "lab/nb")
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["lab/nb"]
    assert repository.private
    assert b"## Limits" in repository.files["README.md"]
    before = mmlnb("infer", tmp_path, tmp_path / "out", "--bundle", "hf:lab/nb", offline=True)
    assert before.returncode == 2
    assert "hf:lab/nb: no such bundle on this machine; fetch it with `mmlnb bundle pull lab/nb FOLDER`" in before.stderr
    pulled = mmlnb("bundle", "pull", "lab/nb", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    assert load_bundle(tmp_path / "pulled").key == load_bundle(EMBEDDED_FOLDER).key
    assert not any(path.is_symlink() for path in (tmp_path / "pulled").rglob("*"))
    # No slides, which is looked for after the bundle was found and checked.
    after = mmlnb("infer", tmp_path / "none", tmp_path / "out", "--bundle", "hf:lab/nb", offline=True)
    assert "none: no such file or folder" in after.stderr


def test_a_second_push_leaves_nothing_of_the_first_and_a_public_repository_is_not_used_unasked(
    hub: FakeHub, mmlnb: Mmlnb, tmp_path: Path
) -> None:
    assert mmlnb("bundle", "push", EMBEDDED_FOLDER, "lab/nb").returncode == 0
    hub.repositories["lab/nb"].files["adapter/old.safetensors"] = b"old"
    hub.repositories["lab/nb"].commit()
    broken = mmlnb("bundle", "pull", "lab/nb", tmp_path / "pulled")
    assert broken.returncode == 2
    assert "old.safetensors" in broken.stderr
    assert not (tmp_path / "pulled").exists()
    assert mmlnb("bundle", "push", EMBEDDED_FOLDER, "lab/nb").returncode == 0
    assert set(hub.repositories["lab/nb"].files) == {
        ".gitattributes",
        "bundle.json",
        *load_bundle(EMBEDDED_FOLDER).index.files,
    }
    hub.repositories["lab/nb"].private = False
    refused = mmlnb("bundle", "push", EMBEDDED_FOLDER, "lab/nb")
    assert refused.returncode == 2
    assert "lab/nb: is public already; give --public" in refused.stderr
    assert mmlnb("bundle", "push", EMBEDDED_FOLDER, "lab/nb", "--public").returncode == 0


def test_what_a_hub_cannot_do_is_one_line(hub: FakeHub, mmlnb: Mmlnb, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(EMBEDDED_FOLDER, changed)
    (changed / "metrics.json").write_text("{}")
    for arguments, offline, message in (
        (("pull", "lab/none", "out"), False, "lab/none: the hub shows no repository of this name"),
        (("pull", "none", "out"), False, "none: no repository on the hub; give OWNER/NAME"),
        (("pull", "lab/nb", "out"), True, "HF_HUB_OFFLINE is set"),
        (("push", changed, "lab/nb"), False, "metrics.json: was changed after the bundle was made"),
    ):
        done = mmlnb("bundle", *arguments, offline=offline)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not hub.repositories
    assert not (tmp_path / "out").exists()
