"""The whole path on synthetic tissue: from drawn patches to the report on slides."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from data.atomic import digest, write_json, write_text
from data.claim import claim
from data.command import config_yaml, make_config
from data.config import PrepareConfig
from data.errors import InputError
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from fusion.config import EvaluateConfig, TrainConfig
from fusion.evaluate import evaluate
from mmlnb.bundle_config import BundleMakeConfig
from mmlnb.caption_scores import read_caption_scores, score_captions, write_caption_scores
from mmlnb.config import DemoConfig, InferConfig, ReportConfig
from mmlnb.inference import infer
from mmlnb.make_bundle import bundle_make
from mmlnb.memory import PeakMemory
from mmlnb.model_card import ARMS
from mmlnb.pages.run_page import report
from vlm_finetune.config import CaptionConfig, FinetuneConfig


class Demo:
    """The stages of the demonstration, each leaving its files in a folder of its own below `config.out`."""

    def __init__(self, config: DemoConfig) -> None:
        self.config = config
        self.out = config.out
        self.taxonomy = load_taxonomy()
        self.manifest = self.out / "patches.parquet"
        self.base_captions = self.out / "captions-base"
        self.captions = self.out / "captions"
        self.caption_scores = self.out / "caption-scores.json"

    def synth(self) -> None:
        """Draw the patches and the slides, and write the manifest."""
        config = self.config
        synth(
            SynthConfig(
                out=self.out / "synth",
                patients=config.patients,
                patches_per_patient=config.patches_per_patient,
                slides=config.slides,
                slide_px=config.slide_px,
                seed=config.seed,
            )
        )
        prepare(PrepareConfig(source=self.out / "synth" / "labels.csv", out=self.manifest, seed=config.seed))

    def finetune(self) -> None:
        """Fine-tune the embedded vision-language model on the training patients' descriptions."""
        settings = make_config(
            FinetuneConfig, name="finetune", config="tiny", manifest=self.manifest, out=self.out / "finetune"
        )
        if self.config.finetune_epochs is not None:
            settings = replace(settings, epochs=self.config.finetune_epochs)
        self._launch("vlm_finetune.train", replace(settings, seed=self.config.seed))

    def caption(self) -> None:
        """Describe all patches with the fine-tuned model, and the held-out ones with the base model for comparison."""
        from vlm_finetune.caption import caption

        settings = make_config(
            CaptionConfig,
            name="caption",
            config="tiny",
            manifest=self.manifest,
            out=self.captions,
            adapter=self.out / "finetune",
        )
        caption(settings)
        caption(replace(settings, out=self.base_captions, adapter=None, splits=("test",)))
        write_caption_scores(
            self.caption_scores,
            base=score_captions(self.manifest, self.base_captions, split="test", taxonomy=self.taxonomy),
            finetuned=score_captions(self.manifest, self.captions, split="test", taxonomy=self.taxonomy),
        )

    def train(self) -> None:
        """Train the towers and PRMF on the captions, under the curriculum."""
        settings = make_config(
            TrainConfig,
            name="train",
            config="tiny",
            manifest=self.manifest,
            captions=self.captions,
            out=self.out / "train",
        )
        if epochs := self.config.train_epochs:
            if len(epochs) != len(settings.stages):
                raise InputError(f"--train_epochs needs {len(settings.stages)} numbers, one per stage")
            stages = zip(settings.stages, epochs, strict=True)
            settings = replace(settings, stages=tuple(replace(stage, epochs=count) for stage, count in stages))
        self._launch("fusion.train", replace(settings, seed=self.config.seed))

    def evaluate(self) -> None:
        """Measure on the held-out patients, and gather the bundle."""
        out = self.out / "evaluate"
        evaluate(EvaluateConfig(model=self.out / "train", manifest=self.manifest, captions=self.captions, out=out))
        if (self.out / "bundle").exists():
            return  # Made by an attempt that ended right after it; a bundle is whole or absent.
        bundle_make(
            BundleMakeConfig(
                run=self.out,
                out=self.out / "bundle",
                notice="The models were trained on synthetic tissue only.",
                training_data="Tissue drawn by `mmlnb synth`: no image of it comes from a patient.",
                licence="apache-2.0",
            )
        )

    def infer(self) -> None:
        """Call the slides of patients that no stage has seen."""
        status = infer(InferConfig(slides=self.slides, out=self.out / "infer", bundle=str(self.out / "bundle")))
        if status:
            raise InputError(
                f"{self.out / 'infer' / 'slides.csv'}: some synthetic slides were not called; see its reasons"
            )

    @property
    def slides(self) -> Path:
        """Folder of the synthetic slides."""
        return self.out / "synth" / "slides"

    def summary(self, seconds: dict[str, float], peak_rss_gb: float) -> dict[str, Any]:
        """Everything that was measured, as summary.json holds it."""
        metrics = json.loads((self.out / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
        scores = read_caption_scores(self.caption_scores)
        called = pd.read_csv(self.out / "infer" / "slides.csv", dtype={"slide": str}).set_index("slide")
        truth = pd.read_csv(self.out / "synth" / "slides.csv", dtype={"slide": str}).set_index("slide")
        right = truth["label"] == called["subtype"].reindex(truth.index)
        return {
            "seconds": {
                **{name: round(value, 1) for name, value in seconds.items()},
                "total": round(sum(seconds.values()), 1),
            },
            "peak_rss_gb": round(peak_rss_gb, 2),
            "caption": {"finding_macro_f1": {name: round(score["macro_f1"], 4) for name, score in scores.items()}},
            "patch": {
                arm: {measure: metrics[arm][measure] for measure in ("balanced_accuracy", "auroc")} for arm in ARMS
            },
            "slide": {"count": len(truth), "accuracy": round(float(right.mean()), 4)},
        }

    def _launch(self, module: str, settings: FinetuneConfig | TrainConfig) -> None:
        """Run a training the way users do: `accelerate launch -m MODULE --config FILE`."""
        file = self.out / "settings" / f"{module}.yaml"
        write_text(file, config_yaml(settings))
        command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
        command += ["--num_processes", "1", "--num_machines", "1"]
        command += ["--num_cpu_threads_per_process", str(os.cpu_count() or 1)]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", "--quiet"]
        finished = subprocess.run([*command, "-m", module, "--config", str(file)], check=False)
        if finished.returncode:
            raise InputError(f"{module} ended with status {finished.returncode}; its own message is above")


def demo(config: DemoConfig) -> Path:
    """Run the stages that are not done yet and return the path of the report.

    Raises:
        InputError: the output folder holds something else, or a stage failed.
    """
    settings = {name: value for name, value in asdict(config).items() if name != "out"}
    claim(config.out, key=digest(json.dumps(settings, default=str)))
    run = Demo(config)
    stages: dict[str, Callable[[], None]] = {
        name: getattr(run, name) for name in ("synth", "finetune", "caption", "train", "evaluate", "infer")
    }
    done = config.out / "stages.json"
    seconds: dict[str, float] = {}
    peak = 0.0
    if done.is_file():
        state = json.loads(done.read_text(encoding="utf-8"))
        seconds, peak = state["seconds"], state["peak_rss_gb"]
    for number, (name, stage) in enumerate(stages.items(), 1):
        if name in seconds:
            print(f"[{number}/{len(stages)}] {name}: done before, in {seconds[name]:.0f} s", flush=True)
            continue
        print(f"[{number}/{len(stages)}] {name}", flush=True)
        started = time.monotonic()
        with PeakMemory() as memory:
            stage()
        # Of a stage that was cut off and begun again, this is the time of the last attempt.
        seconds[name] = time.monotonic() - started
        peak = max(peak, memory.gigabytes)
        write_json(done, {"seconds": seconds, "peak_rss_gb": peak})
    summary = run.summary(seconds, peak)
    write_json(config.out / "summary.json", summary)
    print(_table(summary))
    return report(ReportConfig(run=config.out))


def _table(summary: dict[str, Any]) -> str:
    captions = summary["caption"]["finding_macro_f1"]
    lines = [f"Captions, finding macro-F1: base {captions['base']:.3f}, fine-tuned {captions['finetuned']:.3f}"]
    for arm, measures in summary["patch"].items():
        values = ", ".join(
            f"{name.replace('_', ' ')} {'not defined' if value is None else f'{value:.3f}'}"
            for name, value in measures.items()
        )
        lines.append(f"Patches, {arm.replace('_', ' ')}: {values}")
    slide = summary["slide"]
    lines.append(f"Slides: {slide['count']} held out, accuracy {slide['accuracy']:.3f}")
    stages = ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    lines.append(f"Seconds: {stages}; peak memory {summary['peak_rss_gb']:.1f} GB")
    return "\n".join(lines)
