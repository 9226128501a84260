"""How fast fine-tuning goes through its tokens, beside a plain loop over the same pairs; one JSON line last."""

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.command import make_config
from data.config import PrepareConfig
from data.image import read_image
from data.manifest import read_manifest, write_manifest
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from mmlnb.memory import PeakMemory
from vlm_finetune.collate import IGNORED, AnswerForm, Collator, encode_answer, join
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.encode import encode_prompts
from vlm_finetune.lora import LoraScope, add_lora
from vlm_finetune.model import find_model, load_adapter, load_base, load_processor
from vlm_finetune.pairs import PairDataset, read_pairs
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.train import finetune


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=48, help="synthetic patients of 20 patches each")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions; medians are reported")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), patients=arguments.patients, rounds=arguments.rounds)))


def measure(folder: Path, *, patients: int, rounds: int) -> dict[str, Any]:
    """Both ways of training, in turn, each from the manifest to its adapter."""
    manifest, held_out = make_pairs(folder, patients=patients)
    settings = make_config(FinetuneConfig, name="finetune", config="tiny", manifest=manifest, out=folder / "warm")
    finetune(replace(settings, epochs=0.1))
    tokens = sum(len(row["input_ids"]) for row in encoded(settings, manifest)) * settings.epochs
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    peak = 0.0
    for attempt in range(rounds):
        started = time.perf_counter()
        plain_model = plain(settings)
        rates["plain"].append(tokens / (time.perf_counter() - started))
        out = folder / f"ours-{attempt}"
        with PeakMemory() as memory:
            started = time.perf_counter()
            finetune(replace(settings, out=out))
            rates["ours"].append(tokens / (time.perf_counter() - started))
        peak = max(peak, memory.gigabytes)
        print({name: round(values[-1]) for name, values in rates.items()}, "tokens per second")
    base = load_base(find_model(settings.model), dtype=torch.float32)
    trained = load_adapter(base, out, processor=processor_of(settings), prompt=prompt_of(settings))
    ours, reference = (statistics.median(rates[name]) for name in ("ours", "plain"))
    return {
        "name": "finetune",
        "tokens_per_second": round(ours, 1),
        "vs_padded_loop": round(ours / reference, 3),
        "peak_rss_gb": round(peak, 3),
        "device": f"{torch.get_num_threads()} threads of {platform.machine()}",
        "padded_loop_tokens_per_second": round(reference, 1),
        "held_out_loss": round(loss(trained, settings, held_out), 4),
        "padded_loop_held_out_loss": round(loss(plain_model, settings, held_out), 4),
        "epochs": settings.epochs,
    }


def make_pairs(folder: Path, *, patients: int) -> tuple[Path, Path]:
    """Manifests of the training pairs, without validation since only the training is timed, and of held-out ones."""
    synth(SynthConfig(out=folder / "synth", patients=patients, patches_per_patient=20, slides=0, seed=5))
    manifest = folder / "patches.parquet"
    prepare(PrepareConfig(source=folder / "synth" / "labels.csv", out=manifest, seed=5))
    frame = read_manifest(manifest)
    held_out = folder / "held-out.parquet"
    write_manifest(frame[frame["split"] == "test"].assign(split="train"), held_out)
    write_manifest(frame[frame["split"] == "train"], manifest)
    return manifest, held_out


def plain(config: FinetuneConfig) -> Any:
    """Train as a first script would: float32, each image read at every step, all batches padded to the longest row."""
    torch.manual_seed(config.seed)
    taxonomy, processor, prompt = load_taxonomy(config.taxonomy), processor_of(config), prompt_of(config)
    pairs = read_pairs(config.manifest, "train", taxonomy)
    form = AnswerForm.of(processor, prompt)
    model = add_lora(load_base(find_model(config.model), dtype=torch.float32), scope_of(config)).train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=config.learning_rate)
    batches = -(-len(pairs) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, round(batches * config.epochs))
    longest = max(len(row["input_ids"]) for row in encoded(config, config.manifest))
    collate = Collator(pad_id=processor.tokenizer.pad_token_id)
    for _ in tqdm(range(round(config.epochs)), desc="plain loop", unit="epoch"):
        order = torch.randperm(len(pairs)).tolist()
        for start in range(0, len(order), config.batch_size):
            rows = []
            for index in order[start : start + config.batch_size]:
                answer = encode_answer(pairs[index].description, form, processor, room=config.max_length)
                rows.append(join(encode_prompts([read_image(pairs[index].image)], prompt, processor), answer))
            model(**padded(collate(rows), longest, processor.tokenizer.pad_token_id)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model.eval()


def padded(batch: dict[str, torch.Tensor], length: int, pad_id: int) -> dict[str, torch.Tensor]:
    """`batch` with every tensor of one value per token filled up on the right to `length`."""
    fill = {"input_ids": pad_id, "labels": IGNORED}
    short = batch["input_ids"].shape
    return {
        key: torch.nn.functional.pad(value, (0, length - short[1]), value=fill.get(key, 0))
        if value.shape == short
        else value
        for key, value in batch.items()
    }


@torch.inference_mode()
def loss(model: Any, config: FinetuneConfig, manifest: Path) -> float:
    """Mean cross-entropy of the answers of `manifest`, in float32."""
    collate = Collator(pad_id=processor_of(config).tokenizer.pad_token_id)
    return statistics.fmean(float(model(**collate([row])).loss) for row in encoded(config, manifest))


def encoded(config: FinetuneConfig, manifest: Path) -> list[dict[str, torch.Tensor]]:
    """All training examples of a manifest."""
    pairs = read_pairs(manifest, "train", load_taxonomy(config.taxonomy))
    dataset = PairDataset(
        pairs, prompt=prompt_of(config), processor=processor_of(config), max_length=config.max_length, cache=False
    )
    return [dataset[row] for row in range(len(dataset))]


def processor_of(config: FinetuneConfig) -> Any:
    """The model's processor for patches of the configured size."""
    return load_processor(find_model(config.model), image_px=config.image_px)


def prompt_of(config: FinetuneConfig) -> PatchPrompt:
    """The configured prompt."""
    taxonomy = load_taxonomy(config.taxonomy)
    return PatchPrompt.fill(system=config.system, question=config.question, image_px=config.image_px, taxonomy=taxonomy)


def scope_of(config: FinetuneConfig) -> LoraScope:
    """The configured adapter."""
    return LoraScope(
        rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout, modules=config.lora_modules
    )


if __name__ == "__main__":
    main()
