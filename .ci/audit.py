"""Look the pinned packages up among known vulnerabilities; where the service cannot be asked, say so and go on."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "constraints.txt"
ADVISORIES = Path(__file__).with_name("advisories.txt")
# A release that is known to be vulnerable: a service that does not say so knows nothing of the others either.
KNOWN = "jinja2==2.4.1"
UNREACHABLE = ("ConnectionError", "Could not connect", "network may be blocking", "Max retries", "timed out")


@dataclass(frozen=True)
class Report:
    """What pip-audit found."""

    vulnerable: dict[str, tuple[str, ...]]
    """Package and version to its advisories."""
    unknown: tuple[str, ...]
    """Packages that the service does not know."""


class UnreachableError(Exception):
    """The service cannot be asked."""


def main() -> int:
    """Audit the pins; return 0, or 1 where one is vulnerable or the audit itself is broken."""
    try:
        ignored = read_advisories(ADVISORIES)
        with tempfile.TemporaryDirectory() as folder:
            known = Path(folder) / "known.txt"
            known.write_text(f"{KNOWN}\n", encoding="utf-8")
            if not pip_audit(known, ()).vulnerable:
                raise UnreachableError(f"it knows nothing of {KNOWN}, which is vulnerable")
        report = pip_audit(PINS, tuple(ignored))
    except UnreachableError as error:
        print(
            f"audit: NOT MADE, the service of known vulnerabilities cannot be asked ({error}); run it where it can be"
        )
        return 0
    except ValueError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    for package, advisories in report.vulnerable.items():
        print(f"{package}: {', '.join(advisories)}; raise the pin, or give a reason in {ADVISORIES}", file=sys.stderr)
    if report.unknown:
        print(f"audit: the service does not know {', '.join(report.unknown)}")
    if not report.vulnerable:
        print(f"audit: no known vulnerability in {PINS.name}, {len(ignored)} advisories set aside with a reason")
    return 1 if report.vulnerable else 0


def read_advisories(path: Path) -> dict[str, str]:
    """Advisories that are set aside, each with its reason; raises ValueError for one without."""
    entries = [
        line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
    ]
    for entry in entries:
        if len(entry) < 2:
            raise ValueError(f"{path}: {entry[0]} has no reason; write it behind the advisory")
    return {entry[0]: entry[1] for entry in entries}


def pip_audit(pins: Path, ignored: tuple[str, ...]) -> Report:
    """Run pip-audit over `pins`, as they are; raises UnreachableError, or ValueError for any other failure."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command += [part for advisory in ignored for part in ("--ignore-vuln", advisory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return read_report(json.loads(done.stdout))
    except ValueError as error:
        lines = done.stderr.strip().splitlines() or ["no output"]
        cause = next((line for line in lines if any(sign in line for sign in UNREACHABLE)), None)
        if cause is not None:
            raise UnreachableError(" ".join(cause.split())[:200]) from error
        raise ValueError(f"pip-audit failed: {lines[-1]}") from error


def read_report(content: Any) -> Report:
    """What pip-audit's JSON says."""
    packages = content["dependencies"]
    return Report(
        vulnerable={
            f"{one['name']} {one['version']}": tuple(found["id"] for found in one["vulns"])
            for one in packages
            if one.get("vulns")
        },
        unknown=tuple(one["name"] for one in packages if "skip_reason" in one),
    )


if __name__ == "__main__":
    sys.exit(main())
