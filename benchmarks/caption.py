"""How fast patches are described, beside a loop that takes one image at a time; one JSON line last."""

import argparse
import inspect
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.captions import read_captions
from data.command import make_config
from data.config import PrepareConfig
from data.image import read_image
from data.manifest import image_path, read_manifest
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from mmlnb.memory import PeakMemory
from vlm_finetune.caption import caption
from vlm_finetune.captioner import Captioner
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.encode import encode_prompts
from vlm_finetune.model import find_checkpoint, load
from vlm_finetune.parts import base_of
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.train import finetune

BATCHES = (32, 64, 128, 256)
FORCED_TOKENS = 48
ROUNDS = 3


def main() -> None:
    """Measure, print what each round gave and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=24, help="synthetic patients of 20 patches each")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions; medians are reported")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), patients=arguments.patients, rounds=arguments.rounds)))


def measure(folder: Path, *, patients: int, rounds: int) -> dict[str, Any]:
    """Both ways of describing the same patches, in turn, and the decoding alone."""
    synth(SynthConfig(out=folder / "synth", patients=patients, patches_per_patient=20, slides=0, seed=5))
    manifest = folder / "patches.parquet"
    prepare(PrepareConfig(source=folder / "synth" / "labels.csv", out=manifest, seed=5))
    tuning = make_config(FinetuneConfig, name="finetune", config="tiny", manifest=manifest, out=folder / "adapter")
    finetune(tuning)
    settings = make_config(CaptionConfig, name="caption", config="tiny", manifest=manifest, out=folder / "none")
    settings = replace(settings, adapter=tuning.out)
    seconds: dict[str, list[float]] = {"reference": [], "merged_reference": [], "ours": []}
    peak = 0.0
    for attempt in range(rounds):
        for name in ("reference", "merged_reference"):
            started = time.perf_counter()
            reference = one_at_a_time(settings, folder / f"{name}.json", merged=name == "merged_reference")
            seconds[name].append(time.perf_counter() - started)
        out = folder / f"captions-{attempt}"
        with PeakMemory() as memory:
            started = time.perf_counter()
            caption(replace(settings, out=out))
            seconds["ours"].append(time.perf_counter() - started)
        peak = max(peak, memory.gigabytes)
        print({name: round(len(reference) / values[-1], 2) for name, values in seconds.items()}, "per second")
    written = read_captions(out).set_index("patch_id")
    tokens = int(written["tokens"].sum())
    ours, loop, merged = (statistics.median(seconds[name]) for name in ("ours", "reference", "merged_reference"))
    limit, batch = decode_limit(settings)
    return {
        "name": "caption",
        "captions_per_second": round(len(reference) / ours, 2),
        "reference_captions_per_second": round(len(reference) / loop, 2),
        "ratio": round(loop / ours, 2),
        "ratio_to_loop_with_merged_adapter": round(merged / ours, 2),
        "tokens_per_second": round(tokens / ours, 1),
        "share_of_decode_limit": round(tokens / ours / limit, 3),
        "identical_text": written["text"].to_dict() == reference,
        "peak_rss_gb": round(peak, 3),
        "device": f"{torch.get_num_threads()} threads of {platform.machine()}",
        "decode_limit_tokens_per_second": round(limit, 1),
        "decode_limit_batch": batch,
        "patches": len(reference),
        "seconds_by_part_of_256": seconds_by_part(settings),
    }


def captioner_of(config: CaptionConfig) -> Captioner:
    """The model with its adapter, as captioning loads it."""
    return Captioner(model=config.model, adapter=config.adapter, device=config.device, dtype=config.dtype)


@torch.inference_mode()
def one_at_a_time(config: CaptionConfig, out: Path, *, merged: bool) -> dict[str, str]:
    """Describe each patch by itself and write the whole file again after each, as the release of the paper does.

    It keeps the adapter beside the weights; `merged` adds it to them first.
    """
    default = PatchPrompt.default(load_taxonomy(config.taxonomy))
    checkpoint = find_checkpoint(config.model, prompt=None, default_prompt=default, adapter=config.adapter)
    loaded = load(checkpoint, device=config.device, dtype=config.dtype)
    model, processor = loaded.model.merge_and_unload() if merged else loaded.model, loaded.processor
    texts: dict[str, str] = {}
    rows = read_manifest(config.manifest)
    for patch_id, image in tqdm(zip(rows["patch_id"], rows["image"], strict=True), desc="one by one", total=len(rows)):
        inputs = encode_prompts([read_image(image_path(config.manifest, image))], loaded.prompt, processor)
        ids = model.generate(**inputs, max_new_tokens=config.max_new_tokens, do_sample=False)
        texts[patch_id] = processor.tokenizer.decode(
            ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        ).strip()
        out.write_text(json.dumps(texts, indent=1), encoding="utf-8")
    return texts


@torch.inference_mode()
def decode_limit(config: CaptionConfig) -> tuple[float, int]:
    """Tokens per second of decoding alone, images already encoded and all rows equally long, at the best batch."""
    captioner = captioner_of(config)
    model, base = captioner.loaded.model, base_of(captioner.loaded.model)
    rows = read_manifest(config.manifest)
    images = [read_image(image_path(config.manifest, image)) for image in rows["image"][: max(BATCHES)]]
    found = []
    for size in BATCHES:
        inputs = encode_prompts((images * size)[:size], captioner.prompt, captioner.loaded.processor)
        names = inspect.signature(base.base_model.get_image_features).parameters
        pixels = {name: value for name, value in inputs.items() if name in names}
        encoded = base.base_model.get_image_features(**pixels, return_dict=True)
        inputs = {name: value for name, value in inputs.items() if not name.startswith("pixel_")}
        length = {"max_new_tokens": FORCED_TOKENS, "min_new_tokens": FORCED_TOKENS, "do_sample": False}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            model.generate(**inputs, mm_encoder_outputs={"image": encoded}, **length)
            found.append((size * FORCED_TOKENS / (time.perf_counter() - started), size))
    print({size: round(max(rate for rate, other in found if other == size)) for size in BATCHES}, "tokens per second")
    return max(found)


def seconds_by_part(config: CaptionConfig, count: int = 256) -> dict[str, float]:
    """Where the time of describing `count` patches goes, each part by itself."""
    captioner = captioner_of(config)
    base, rows = base_of(captioner.loaded.model), read_manifest(config.manifest)
    assert captioner.rows is not None
    encoder = captioner.rows.encoder
    paths = [image_path(config.manifest, image) for image in rows["image"][:count]]
    spent = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        spent[name] = round(time.perf_counter() - started, 3)
        return result

    images = timed("reading", lambda: [read_image(path) for path in paths])
    timed("keys", lambda: [captioner.row_key(image) for image in images])
    small = timed("resizing", lambda: [captioner.prompt.resize(image) for image in images])
    chunks = [small[start : start + 32] for start in range(0, len(small), 32)]
    encoded = timed("preprocessing", lambda: [encoder.images(chunk) for chunk in chunks])
    with torch.inference_mode():
        timed("vision_tower", lambda: [base.base_model.get_image_features(**one, return_dict=True) for one in encoded])
    timed("all_of_it", lambda: captioner.describe(small))
    return spent


if __name__ == "__main__":
    main()
