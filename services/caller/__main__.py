"""Run the caller: `python -m services.caller --help`."""

if __name__ == "__main__":
    from services.caller import CALLER
    from services.launch import run

    run(CALLER)
elif __name__ == "__mp_main__":  # vLLM's engine process imports the main module of the process that spawns it
    from services.orphan import end_with_service

    end_with_service()
