"""Run the caller: `python -m services.caller --help`."""

from services.caller import CALLER
from services.launch import run

if __name__ == "__main__":
    run(CALLER)
