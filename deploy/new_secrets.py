"""Make the secrets of docker-compose.yml in secrets/, those that are not there yet: python3 deploy/new_secrets.py.

The folder is its owner's alone, so that nobody else on this machine reaches the files; the files themselves can be read
by all, since each is mounted by itself into containers whose user has another number. Standard library only.
"""

import os
import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "secrets"


def values() -> dict[str, str]:
    """A new value for each file."""
    return {
        "umi_role_token": secrets.token_urlsafe(32),
        "umi_database_password": secrets.token_urlsafe(32),
        "umi_first_key": f"umi_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}",
        "grafana_password": secrets.token_urlsafe(16),
    }


def make(folder: Path) -> list[str]:
    """Write what is missing; returns the names of what was."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    made: list[str] = []
    for name, value in values().items():
        try:
            file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            continue
        with os.fdopen(file, "w") as opened:
            opened.write(value)
        (folder / name).chmod(0o444)  # whatever the umask
        made.append(name)
    return made


if __name__ == "__main__":
    print(f"made in {FOLDER}: {', '.join(make(FOLDER)) or 'nothing, all are there'}")
