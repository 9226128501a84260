"""Stage 2: encode image and text, fuse them with PRMF, train under the curriculum, evaluate."""

import os
import sys
from pathlib import Path

if sys.argv[:1] == ["-m"]:
    # Only `mmlnb prefetch` may reach the network; the hub's library reads this when it is first imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

# `python -m` puts the working folder first on the path, where a package named `data` would replace ours.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [str(Path.cwd())] != [str(Path(__file__).parents[1])]:
    del sys.path[0]
