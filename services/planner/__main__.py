"""Run the planner: `python -m services.planner --help`."""

from services.launch import run
from services.planner import PLANNER

if __name__ == "__main__":
    run(PLANNER)
