"""Run the summarizer: `python -m services.summarizer --help`."""

from services.launch import run
from services.summarizer import SUMMARIZER

if __name__ == "__main__":
    run(SUMMARIZER)
