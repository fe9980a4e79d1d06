"""The environment of `make test-ray`: .venv/bin/python -m deploy.ray.install.

Makes `.venv-ray`, which sees all that is in `.venv` and has Ray beside it, pinned by deploy/ray.lock. Ray is no part of
`.venv`: it is large, and nobody needs it on one machine. A second run does nothing when nothing has changed.
"""

import hashlib
import sys
import sysconfig
import venv

from deploy.install import LOCK, ROOT, run, say

VENV = ROOT / ".venv-ray"
RAY_LOCK = ROOT / "deploy" / "ray.lock"
STAMP = VENV / "umi.installed"


def main() -> None:
    """Install what is not installed yet."""
    wanted = hashlib.sha256(RAY_LOCK.read_bytes() + LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    say(f"making {VENV}")
    venv.create(VENV)
    python = VENV / "bin" / "python"
    packages = VENV / "lib" / "python3.11" / "site-packages"
    (packages / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
    with_pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check"]
    run([*with_pip, "--no-deps", "-r", str(RAY_LOCK)], "a package of deploy/ray.lock could not be installed")
    STAMP.write_text(wanted)


if __name__ == "__main__":
    main()
