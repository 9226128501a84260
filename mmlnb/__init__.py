"""Tumour subtype calls from H&E slides, with the written findings behind them.

Every command is a function of the same name that takes the same settings: `mmlnb.infer(slides=..., out=...)`. A model
that stays loaded, slide after slide, is `mmlnb.Pipeline` (docs/api.md).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmlnb.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"

# `python -m` puts the working folder first on the path, where a package named `data` or `fusion` would replace ours.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())] != [str(Path(__file__).parents[1])]:
    del sys.path[0]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        from mmlnb.pipeline import Pipeline

        return Pipeline
    from mmlnb.commands import find_command

    command = find_command(name)
    if command is not None:
        return command.call
    raise AttributeError(f"module 'mmlnb' has no attribute {name!r}")
