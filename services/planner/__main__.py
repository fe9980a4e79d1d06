"""Run the planner: `python -m services.planner --help`."""

if __name__ == "__main__":
    from services.launch import run
    from services.planner import PLANNER

    run(PLANNER)
elif __name__ == "__mp_main__":  # vLLM's engine process imports the main module of the process that spawns it
    from services.orphan import end_with_service

    end_with_service()
