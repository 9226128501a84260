"""Look for keys and passwords in the files that git tracks; what .secrets.baseline has judged harmless is left out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BASELINE = ".secrets.baseline"


def main() -> int:
    """Scan the working folder; return 0, or 1 where a possible secret is not in the baseline."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        print("secret scan: NOT MADE, this is no git checkout; the files that are tracked are not known")
        return 0
    baseline: dict[str, Any] = json.loads(Path(BASELINE).read_text(encoding="utf-8"))
    found = scan([name for name in listed.stdout.split("\0") if name and Path(name).is_file()], baseline)
    for name, line, kind in found:
        print(
            f"{name}:{line}: {kind}; remove it and change it where it is valid, or judge it in {BASELINE}",
            file=sys.stderr,
        )
    if not found:
        print(f"secret scan: nothing beyond the {sum(map(len, baseline['results'].values()))} places in {BASELINE}")
    return 1 if found else 0


def scan(names: list[str], baseline: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(file, line, kind) of each possible secret that `baseline` does not call harmless, wherever it has moved to."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import transient_settings

    judged = {
        (name, one["type"], one["hashed_secret"])
        for name, places in baseline["results"].items()
        for one in places
        if one.get("is_secret") is False
    }
    settings = {name: baseline[name] for name in ("plugins_used", "filters_used")}
    found = []
    with transient_settings(settings):
        for name in names:
            if name == BASELINE:
                continue
            secrets = SecretsCollection()
            secrets.scan_file(name)
            found += [
                (name, secret.line_number, secret.type)
                for _, secret in secrets
                if (name, secret.type, secret.secret_hash) not in judged
            ]
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main())
