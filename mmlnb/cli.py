"""The `mmlnb` command line."""

import difflib
import sys

from mmlnb import __version__

_HELP = """usage: mmlnb COMMAND [SETTINGS]

Subtype calls from H&E slides, with the written findings behind them. For research use only.

{commands}

mmlnb COMMAND --help lists its settings, --config PRESET starts from a preset, --print-config shows the result."""


def main(argv: list[str] | None = None) -> int:
    """Dispatch to a command and return its exit status: 0 done, 2 wrong usage or input, 3 some slides failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from mmlnb.commands import COMMANDS

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(_HELP.format(commands="\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items())))
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"mmlnb {__version__}")
        return 0
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    command = COMMANDS.get(" ".join(arguments[:words]))
    if group := {name: c for name, c in COMMANDS.items() if name.partition(" ")[0] == arguments[0]}:
        if command is None and set(arguments[1:]) <= {"-h", "--help", "help"}:
            print("\n".join(f"mmlnb {name:<{max(map(len, group))}}  {c.summary}" for name, c in group.items()))
            return 0 if arguments[1:] else 2
        if command is None:
            print(f"mmlnb: error: give one of {', '.join(f'mmlnb {name}' for name in group)}", file=sys.stderr)
            return 2
    if command is None:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.0)[0]
        print(f"mmlnb: error: unknown command {arguments[0]}; the nearest is {near} (mmlnb --help)", file=sys.stderr)
        return 2
    return command.main(arguments[words:])
