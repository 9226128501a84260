"""The recipe for Ray Data writes the captions that `mmlnb caption` writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.captions import COLUMNS, part_number, read_captions
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_captions_from_ray_data_equal_those_of_one_process_and_it_goes_on_where_it_was(
    micro_model: str, manifest: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (mmlnb[ray])")
    (manifest.parent / "images" / "5.png").write_bytes(b"not an image")
    settings = CaptionConfig(
        manifest=manifest,
        out=tmp_path / "alone",
        model=micro_model,
        image_px=56,
        max_new_tokens=12,
        device="cpu",
        dtype="float32",
    )
    caption(settings)
    out = tmp_path / "ray"
    command = [sys.executable, str(ROOT / "examples" / "ray_caption.py"), "--manifest", str(manifest)]
    command += ["--out", str(out), "--model", micro_model, "--image-px", "56", "--max-new-tokens", "12"]
    command += ["--device", "cpu", "--dtype", "float32", "--rows-per-part", "5"]

    def run() -> None:
        done = subprocess.run(
            command,
            # Ray keeps the token of its clusters in the home.
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    run()
    found, expected = (read_captions(folder).set_index("patch_id").sort_index() for folder in (out, settings.out))
    same = [name for name in COLUMNS if name not in ("patch_id", "mean_logprob", "alternatives")]
    assert found[same].equals(expected[same])
    assert found["mean_logprob"].to_numpy() == pytest.approx(expected["mean_logprob"].to_numpy(), abs=1e-4, nan_ok=True)
    assert expected["error"].notna().sum() == 1
    assert len(set(found["text"].dropna())) > 1
    # A part is lost: what it held is described again, and nothing else.
    parts = sorted(out.glob("part-*.parquet"), key=part_number)
    kept = {path: path.stat().st_mtime_ns for path in parts[:-1]}
    parts[-1].unlink()
    run()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert read_captions(out).set_index("patch_id").sort_index()["text"].equals(found["text"])
