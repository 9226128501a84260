"""Stage 2: encode image and text, fuse them with PRMF, train under the curriculum, evaluate."""

import sys
from pathlib import Path

# `python -m` puts the working folder first on the path, where a package named `data` would replace ours.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())] != [str(Path(__file__).parents[1])]:
    del sys.path[0]
