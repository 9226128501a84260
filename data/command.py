"""One typed dataclass becomes one command: presets, overrides, help and one-line errors."""

import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from importlib import import_module, resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from data.errors import InputError

Config = TypeVar("Config")

NEVER_STORED = ("trust_remote_code",)
"""Settings that hold for one command: they are neither written to a file nor read from one, which may be another's."""


def run_command(
    run: Callable[[Config], object],
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    name: str,
    positional: Sequence[str] = (),
) -> int:
    """Parse `argv` into `config_class`, call `run` with it and return the exit status.

    The status is `run`'s own when it returns an int, otherwise 0; 2 for bad input or usage, with one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config = parse_config(config_class, arguments, name=name, positional=positional)
        result = run(config)
    except InputError as error:
        print(f"mmlnb {name}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A disk that is full, a folder that may not be written: the system's own words say it best.
        if error.filename is None:
            raise
        print(f"mmlnb {name}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mmlnb {name}: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0


def parse_config(
    config_class: type[Config], argv: Sequence[str], *, name: str, positional: Sequence[str] = ()
) -> Config:
    """Build `config_class` from a preset (`--config NAME_OR_FILE`) and options, options winning.

    Args:
        config_class: a frozen dataclass; field docstrings are the help.
        argv: options, spelt with hyphens or underscores.
        name: the command's name; presets are `<package>/presets/<name>/*.yaml`.
        positional: field names that leading arguments without a flag fill, in order.

    Raises:
        InputError: an unknown or ill-typed option or key, with the nearest valid name.
    """
    parser = _parser(config_class, name)
    try:
        namespace = parser.parse_args(_normalise(argv, config_class, name=name, positional=positional))
    except ArgumentError as error:
        raise InputError(_explain(str(error), config_class)) from error
    return _construct(config_class, parser.instantiate(namespace))


def make_config(config_class: type[Config], *, name: str, config: str | None = None, **values: Any) -> Config:
    """Build `config_class` from the preset or YAML file `config` and keyword `values`, as the command line would.

    Raises:
        InputError: as `parse_config`.
    """
    parser = _parser(config_class, name)
    content: dict[str, Any] = {}
    if config is not None:
        content = _read_yaml(Path(_find_config(config, config_class, name)))
    try:
        namespace = parser.parse_object(_plain(content | values))
    except ArgumentError as error:
        raise InputError(_explain(str(error), config_class)) from error
    return _construct(config_class, parser.instantiate(namespace))


def config_yaml(config: Any) -> str:
    """The resolved configuration as YAML; reading it back gives the same configuration but for `NEVER_STORED`."""
    stored = {name: value for name, value in asdict(config).items() if name not in NEVER_STORED}
    return yaml.safe_dump(_plain(stored), sort_keys=False, allow_unicode=True)


def preset_names(config_class: type, name: str) -> list[str]:
    """Names of the presets that ship for the command `name`."""
    folder = _preset_folder(config_class, name)
    if not folder.is_dir():
        return []
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _parser(config_class: type, name: str) -> Any:
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    presets = ", ".join(preset_names(config_class, name)) or "this command has none"
    parser = jsonargparse.ArgumentParser(
        prog=f"mmlnb {name}", description=(config_class.__doc__ or "").strip(), exit_on_error=False, allow_abbrev=False
    )
    parser.add_class_arguments(config_class, as_group=False)
    parser.add_argument("--config", action="config", help=f"YAML file or preset; presets: {presets}.")
    return parser


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _construct(config_class: type[Config], values: Any) -> Config:
    # jsonargparse hands tuples over as lists; a frozen configuration must hash and compare.
    return config_class(**{n: tuple(v) if isinstance(v := values[n], list) else v for n in _names(config_class)})


def _preset_folder(config_class: type, name: str) -> Any:
    return resources.files(config_class.__module__.partition(".")[0]) / "presets" / name


def _normalise(argv: Sequence[str], config_class: type, *, name: str, positional: Sequence[str]) -> list[str]:
    """Name the positional arguments, spell options with underscores, and put the preset first."""
    arguments = list(argv)
    options: list[str] = []
    config: list[str] = []
    unnamed: list[str] = []
    while arguments:
        argument = arguments.pop(0)
        option, equals, value = argument.partition("=")
        if option == "--config" and (equals or arguments):
            # A preset is the ground that options stand on, wherever it was written.
            config += ["--config", _find_config(value if equals else arguments.pop(0), config_class, name)]
        elif option.startswith("--"):
            key = option.removeprefix("--").replace("-", "_")
            if key in _switches(config_class) and not equals and arguments[:1] not in (["true"], ["false"]):
                options.append(f"--{key}=true")
            elif key.partition(".")[0] in _names(config_class):
                options += ["--" + key + equals + value, *([] if equals else arguments[:1])]
                del arguments[: 0 if equals else 1]
            elif key in ("help", "print_config"):
                options.append("--" + key + equals + value)
            else:
                raise InputError(_unknown(key, config_class))
        elif argument.startswith("-"):
            options.append(argument)
        else:
            unnamed.append(argument)
    if len(unnamed) > len(positional):
        raise InputError(f"unexpected argument {unnamed[len(positional)]}; settings are given as --name value")
    return config + [f"--{field}={argument}" for field, argument in zip(positional, unnamed, strict=False)] + options


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: not a configuration; write one `setting: value` per line")
    for key in NEVER_STORED:
        if key in (content or {}):
            raise InputError(f"{path}: {key} may not be set in a file; give --{key} on the command line")
    return content or {}


def _find_config(given: str, config_class: type, name: str) -> str:
    presets = preset_names(config_class, name)
    if given in presets:
        return str(_preset_folder(config_class, name) / f"{given}.yaml")
    if not Path(given).is_file():
        raise InputError(f"--config {given}: no such file or preset; the presets are {', '.join(presets) or 'none'}")
    _read_yaml(Path(given))
    return given


def _names(config_class: type) -> list[str]:
    return [field.name for field in fields(config_class)]


def _switches(config_class: type) -> list[str]:
    """Settings that are true or false; given without a value they are true."""
    return [field.name for field in fields(config_class) if field.type in (bool, "bool")]


def _unknown(key: str, config_class: type) -> str:
    near = difflib.get_close_matches(key, _names(config_class), n=1, cutoff=0.0)
    return f"unknown setting {key}" + (f"; the nearest is {near[0]} (--help lists all)" if near else "")


def _explain(message: str, config_class: type) -> str:
    """One line of jsonargparse's message, with the nearest valid name where one was not known."""
    line = " ".join(message.split())
    unknown = re.search(r"unrecognized arguments: (\S+)", line) or re.search(r"Option '([^']+)' is not accepted", line)
    if unknown:
        key = unknown.group(1).lstrip("-").partition("=")[0].partition(".")[0]
        nested = re.search(r"class_path '([\w.]+)\.(\w+)'", line)
        owner = getattr(import_module(nested.group(1)), nested.group(2)) if nested else config_class
        return _unknown(key, owner)
    required = re.search(r"following arguments are required: (.+)", line)
    if required:
        missing = " and ".join(f"--{key.strip()}" for key in required.group(1).split(","))
        return f"{missing} must be given (--help lists all settings)"
    line = re.sub(r"Parser key \"(\w+)\":", r"--\1:", line)
    line = re.sub(r"Expected a typing\.Literal\[(.+?)\]\. Got value: (.+)", r"\2 is none of \1", line)
    listed = re.fullmatch(r"--(\w+): Expected a <class 'tuple'>\. Got value: (.+)", line)
    if listed:
        name, value = listed.groups()
        words = get_args(get_args(get_type_hints(config_class)[name])[0]) or (value,)
        return f"--{name}: {value} is no list; write it as [{','.join(map(str, words))}]"
    return line
