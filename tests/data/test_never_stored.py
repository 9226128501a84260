"""Leave for a model's own code is given on the command line, never by a file."""

from pathlib import Path

import pytest
import yaml

from data.command import config_yaml, make_config, parse_config
from data.errors import InputError
from fusion.config import EvaluateConfig, TrainConfig
from vlm_finetune.config import CaptionConfig, FinetuneConfig

COMMANDS = {"train": TrainConfig, "finetune": FinetuneConfig, "caption": CaptionConfig, "evaluate": EvaluateConfig}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_given_by_name_and_not_stored(name: str) -> None:
    given = ["--manifest", "m", "--out", "o", "--trust-remote-code", "[owner/name]"]
    given += ["--model", "model"] if name in ("evaluate", "caption", "finetune") else []
    config = parse_config(COMMANDS[name], given, name=name)
    assert config.trust_remote_code == ("owner/name",)  # type: ignore[attr-defined]
    assert "trust_remote_code" not in yaml.safe_load(config_yaml(config))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_gives_it_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("manifest: m\nout: o\nmodel: model\ntrust_remote_code: [owner/name]\n")
    with pytest.raises(InputError, match="may not be set in a file; give --trust_remote_code on the command line"):
        parse_config(COMMANDS[name], ["--config", str(file)], name=name)
    with pytest.raises(InputError, match="may not be set in a file"):
        make_config(COMMANDS[name], name=name, config=str(file))
