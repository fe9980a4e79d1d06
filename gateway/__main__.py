"""Serve the gateway: python -m gateway. Settings come from the environment, see gateway/settings.py."""

import sys

import uvicorn
from pydantic import ValidationError

from gateway.app import create_app
from gateway.settings import Settings


def main() -> None:
    """Serve until interrupted; a wrong setting is named and nothing is started."""
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors(include_url=False):
            name = "UMI_" + "_".join(str(part) for part in wrong["loc"]).upper()
            print(f"gateway: {name}: {wrong['msg']}", file=sys.stderr)
        sys.exit(2)
    # Streams of unfinished runs would hold the shutdown up for ever.
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
