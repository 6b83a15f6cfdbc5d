"""`snakemake --lint`, less the one lint that does not hold for this workflow.

Snakemake wants a conda environment or a container for each rule. Here one locked environment
(requirements.lock) serves all rules, and `make` builds it.
"""

import re
import subprocess
import sys

EXCEPTION = "Specify a conda environment or container for each rule."


def main() -> int:
    """Print the lints that remain; the exit status is 0 when there are none."""
    command = [sys.executable, "-m", "snakemake", "--lint"]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode == 0:
        return 0
    remaining, where = [], ""
    for line in result.stderr.splitlines():
        if line.startswith("Lints for "):
            where = line.removeprefix("Lints for ")
        elif (lint := re.match(r"    \* (.*)", line)) and not lint[1].startswith(EXCEPTION):
            remaining.append(f"{where} {lint[1]}")
    if where and not remaining:
        return 0
    # Without any lint the workflow could not even be read: Snakemake's own message says why.
    print("\n".join(remaining) if where else result.stdout + result.stderr, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
