"""The commands: what each is called, what it takes, and where it lives. Nothing heavy is imported before it runs."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from data.command import make_config, run_command


@dataclass(frozen=True)
class Command:
    """One command of the command line, and the Python function of the same name."""

    name: str
    """What is typed, of one word or two; underscores join its parts in Python."""
    summary: str
    config: str
    """`module:dataclass` of its settings."""
    run: str
    """`module:function` that takes them."""
    positional: tuple[str, ...] = ()
    """Settings that leading arguments fill, in order."""
    network: bool = False
    """Whether it may reach the network, where it is asked to by name."""

    def main(self, argv: list[str]) -> int:
        """Run from command-line arguments; return the exit status."""

        self._stay_offline()

        def run(config: Any) -> Any:
            return _load(self.run)(config)

        return run_command(run, _load(self.config), argv, name=self.name, positional=self.positional)

    def call(self, *arguments: Any, config: str | None = None, **settings: Any) -> Any:
        """Run from Python: positional arguments as on the command line, `config` a preset or YAML file."""
        self._stay_offline()
        if len(arguments) > len(self.positional):
            raise TypeError(f"{self.name}() takes {len(self.positional)} positional arguments, not {len(arguments)}")
        named = dict(zip(self.positional, arguments, strict=False))
        return _load(self.run)(make_config(_load(self.config), name=self.name, config=config, **named, **settings))

    def _stay_offline(self) -> None:
        if not self.network:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "demo",
            "run the whole path on synthetic tissue: train, caption, evaluate, infer, report",
            "mmlnb.config:DemoConfig",
            "mmlnb.demonstration:demo",
            ("out",),
        ),
        Command(
            "synth",
            "draw synthetic tissue: labelled patches with descriptions, and whole slides",
            "data.synthetic.config:SynthConfig",
            "data.synthetic.cohort:synth",
            ("out",),
        ),
        Command(
            "prepare",
            "check labelled patches and write the manifest, with a patient-grouped split",
            "data.config:PrepareConfig",
            "data.prepare:prepare",
            ("source", "out"),
        ),
        Command(
            "split",
            "deal the patients of a manifest, or whole sites, into folds and inner folds, a manifest for each",
            "data.config:SplitConfig",
            "data.cross_validation:split",
            ("manifest", "out"),
        ),
        Command(
            "tile",
            "list the tissue of slides as patches, for `caption --slides`; nothing is cut out",
            "data.config:TileConfig",
            "data.tile_slides:tile",
            ("slides", "out"),
        ),
        Command(
            "finetune",
            "teach a vision-language model to describe patches (LoRA)",
            "vlm_finetune.config:FinetuneConfig",
            "vlm_finetune.train:finetune",
        ),
        Command(
            "export-adapter",
            "merge an adapter into its base, with a proof that it says the same",
            "vlm_finetune.export_config:ExportConfig",
            "vlm_finetune.export:export_adapter",
            network=True,
        ),
        Command(
            "caption",
            "let the fine-tuned model describe every patch of a manifest",
            "vlm_finetune.config:CaptionConfig",
            "vlm_finetune.caption:caption",
        ),
        Command(
            "evaluate-captions",
            "judge captions: findings against those that are there, wording against references",
            "vlm_finetune.judge.config:EvaluateCaptionsConfig",
            "vlm_finetune.judge.evaluate:evaluate_captions",
        ),
        Command(
            "train",
            "train image tower, text tower and PRMF under the curriculum",
            "fusion.config:TrainConfig",
            "fusion.train:train",
        ),
        Command(
            "evaluate",
            "measure a trained model on held-out patches",
            "fusion.config:EvaluateConfig",
            "fusion.evaluate:evaluate",
        ),
        Command(
            "compare",
            "compare two evaluations of the same patches, or two arms of one",
            "fusion.config:CompareConfig",
            "fusion.compare:compare",
            ("a", "b"),
        ),
        Command(
            "ablate",
            "train and evaluate the arms of an ablation over several seeds: one table, one figure",
            "mmlnb.config:AblateConfig",
            "mmlnb.ablation:ablate",
        ),
        Command(
            "bundle make",
            "gather everything that slide inference needs in one folder",
            "mmlnb.bundle_config:BundleMakeConfig",
            "mmlnb.make_bundle:bundle_make",
            ("run", "out"),
        ),
        Command(
            "bundle push",
            "upload a bundle to the hub, privately unless told otherwise",
            "mmlnb.bundle_config:BundlePushConfig",
            "mmlnb.hub_bundles:bundle_push",
            ("bundle", "repository"),
            network=True,
        ),
        Command(
            "bundle pull",
            "download a bundle from the hub and check it",
            "mmlnb.bundle_config:BundlePullConfig",
            "mmlnb.hub_bundles:bundle_pull",
            ("repository", "out"),
            network=True,
        ),
        Command(
            "bundle convert",
            "bring a bundle of an older schema to the present one",
            "mmlnb.bundle_config:BundleConvertConfig",
            "mmlnb.convert_bundle:bundle_convert",
            ("old", "out"),
        ),
        Command(
            "infer",
            "call the subtype of every slide in a folder",
            "mmlnb.config:InferConfig",
            "mmlnb.inference:infer",
            ("slides", "out"),
        ),
        Command(
            "report",
            "write the HTML report of a run",
            "mmlnb.config:ReportConfig",
            "mmlnb.pages.run_page:report",
            ("run",),
        ),
        Command(
            "doctor",
            "check that this machine can run everything",
            "mmlnb.config:DoctorConfig",
            "mmlnb.checkup:doctor",
        ),
        Command(
            "encoders",
            "list the encoders, with their licences and whether their weights are here",
            "mmlnb.config:EncodersConfig",
            "mmlnb.encoder_list:encoders",
        ),
        Command(
            "prefetch",
            "download a model by name, so that everything else runs offline",
            "mmlnb.config:PrefetchConfig",
            "mmlnb.hub:prefetch",
            ("model",),
            network=True,
        ),
    )
}


def find_command(name: str) -> Command | None:
    """The command of a Python name: `bundle_make` is `bundle make`, `evaluate_captions` is `evaluate-captions`."""
    return {_python_name(command): COMMANDS[command] for command in COMMANDS}.get(_python_name(name))


def _python_name(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")
