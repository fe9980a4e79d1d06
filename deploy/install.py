"""Install everything UMi needs on a machine without a GPU: `make setup`, or `python3.11 deploy/install.py`.

Makes `.venv` from the pinned lock, installs UMi itself, and prepares the embedded backbone in `var/backbone`. Progress
is shown; a second run does nothing when nothing has changed. Standard library only, since nothing is installed yet.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "deploy" / "cpu.lock"
STAMP = VENV / "umi.installed"
BACKBONE = ROOT / "var" / "backbone"
TORCH = "torch=="
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NEED_MEMORY_GIB, NEED_DISK_GIB = 8, 8


def main() -> None:
    """Check the machine, then do what is not done yet."""
    check()
    if not STAMP.exists() or STAMP.read_text() != fingerprint():
        install()
        STAMP.write_text(fingerprint())
    if not (BACKBONE / "config.json").exists():
        say("preparing the embedded backbone (about 30 s)")
        run(
            [str(PYTHON), "-W", "ignore", "-m", "services.backbone", str(BACKBONE)],
            "the backbone could not be prepared",
        )


def check() -> None:
    """Say in one sentence what this machine lacks, before anything is downloaded."""
    if sys.version_info[:2] != (3, 11):
        found = ".".join(map(str, sys.version_info[:2]))
        stop(f"this is Python {found}; UMi's lock is for Python 3.11: install it and run `make PYTHON=python3.11 …`")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        stop(f"the CPU lock is for Linux on x86-64, this is {sys.platform} on {os.uname().machine}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if memory < NEED_MEMORY_GIB:
        stop(f"{memory:.1f} GiB of memory; three role services need {NEED_MEMORY_GIB}: use a larger machine")
    if not STAMP.exists() and (free := shutil.disk_usage(ROOT).free / 2**30) < NEED_DISK_GIB:
        stop(f"{free:.1f} GiB free in {ROOT}; the installation needs {NEED_DISK_GIB}: free some space")


def fingerprint() -> str:
    """Changes when the lock or the project's metadata does."""
    return hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def install() -> None:
    """The lock and UMi into `.venv`; the lock is complete, so pip resolves nothing."""
    if not PYTHON.exists():
        say(f"making {VENV}")
        venv.create(VENV, with_pip=True)
    pinned = LOCK.read_text().split()
    torch = next(line for line in pinned if line.startswith(TORCH))
    with_pip = [str(PYTHON), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    say(f"1/3 {torch}")
    if run([*with_pip, torch], None):
        # The CPU build is not on PyPI. An index that is configured here may have it; PyTorch's own does.
        run(
            [*with_pip, torch, "--index-url", TORCH_INDEX],
            f"{torch} is neither on a configured index nor on {TORCH_INDEX}",
        )
    say(f"2/3 {len(pinned)} pinned packages")
    run([*with_pip, "-r", str(LOCK)], "a package of the lock could not be installed: the last lines above name it")
    say("3/3 UMi itself")
    run([*with_pip, "--no-build-isolation", "-e", str(ROOT)], "UMi could not be installed")


def run(command: list[str], failure: str | None) -> int:
    """Run a command with its output shown; end with `failure` when it fails, or return its status when that is None."""
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status and failure is not None:
        stop(failure)
    return status


def say(text: str) -> None:
    """One line of progress."""
    print(f"[setup] {text}", flush=True)


def stop(reason: str) -> None:
    """End with one sentence."""
    sys.exit(f"[setup] {reason}")


if __name__ == "__main__":
    main()
