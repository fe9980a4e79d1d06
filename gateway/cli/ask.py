"""umi ask: a query, its steps as they happen, its answer."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.cli.api import Api, Failed
from gateway.cli.common import GatewayUrl
from umi.trajectory import JsonObject

EXIT_CODES = {
    "answered": 0,
    "gave_up": 2,
    "max_steps": 2,
    "deadline": 2,
    "cancelled": 2,
    "expired": 2,
    "failed": 1,
    "requires_action": 3,
}
_ENDINGS = {
    "gave_up": "Gave up: the planner sees no way to an answer.",
    "max_steps": "Stopped: no answer within the allowed steps.",
    "deadline": "Stopped: no answer before the deadline.",
    "cancelled": "Cancelled.",
    "expired": "Stopped: nobody approved the call in time.",
}


def ask(
    query: Annotated[str, typer.Argument(help="What to ask.")],
    tool: Annotated[list[str] | None, typer.Option(help="Use only this tool; may be repeated.")] = None,
    max_steps: Annotated[int, typer.Option(min=1, max=32, help="How many turns the planner has.")] = 8,
    deadline: Annotated[float, typer.Option(help="Seconds until the run is stopped.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the finished run as JSON instead.")] = False,
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """Ask the agent. Exits with 0 when answered, 2 when it gave up or ran out of steps or time, 1 when it failed.

    A call that needs approval is shown and asked about on a terminal; elsewhere the exit code is 3 and the run waits.
    """
    body: JsonObject = {"query": query, "max_steps": max_steps, "deadline_seconds": deadline}
    if tool:
        body["tools"] = tool
    api = Api(gateway)
    if as_json:
        run = api.ask(body)
        print(json.dumps(run, indent=2, ensure_ascii=False))
        raise typer.Exit(EXIT_CODES.get(run.get("outcome") or run.get("status", "failed"), 1))
    raise typer.Exit(EXIT_CODES[show_run(api, body, Console())])


def show_run(api: Api, body: JsonObject, console: Console) -> str:
    """Ask, print every event when it comes, and return the outcome, or that the run requires action. Raises Failed."""
    for event in shown_while_written(api.stream(body), console):
        show_event(event, console)
        if event["type"] == "run.completed":
            return str(event["data"]["outcome"])
        if event["type"] == "requires_action":
            run_id, step = event["run_id"], event["data"]["step"]
            if not _has_terminal():
                console.print(Text(f"To go on: umi runs approve {run_id}   (or with --refuse)", "bold yellow"))
                return "requires_action"
            api.decide(run_id, step, typer.confirm("   Send it?"))
    raise Failed("The gateway stopped before the run was finished.")


def shown_while_written(events: Iterator[JsonObject], console: Console) -> Iterator[JsonObject]:
    """The events; on a terminal, texts that are being written stand below them until their event comes."""
    live = Live(console=console, transient=True, auto_refresh=False)
    text = ""
    try:
        for event in events:
            if event["type"] in {"plan.delta", "answer.delta"}:
                text = text[: event["data"]["offset"]] + event["data"]["text"]
                if console.is_terminal:
                    live.start()
                    live.update(Text(plain(text), "dim"), refresh=True)
            else:
                live.stop()
                text = ""
                yield event
    finally:
        live.stop()


def show_event(event: JsonObject, console: Console) -> None:
    """One event as a line or two. Whatever models and tools wrote is printed as plain text, never as markup."""
    data = event["data"]
    match event["type"]:
        case "plan":
            plan = data["plan"]
            _line(console, f"{data['step']:>2} ", plan["rationale"], "bold", data["seconds"])
        case "tools":
            console.print(Text(plain(f"   + {', '.join(data['tools'])}"), "dim"))
        case "call":
            arguments = ", ".join(
                f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in data["call"]["arguments"].items()
            )
            _line(console, "   → ", f"{data['call']['tool']}({arguments})", "cyan", data["seconds"])
        case "requires_action":
            console.print(Text(plain(f"   ? needs approval: {_request(data['request'])}"), "bold yellow"))
        case "approval":
            reason = f": {data['reason']}" if data["reason"] else ""
            console.print(Text(plain(f"   {'approved' if data['approve'] else 'refused'}{reason}"), "dim"))
        case "observation":
            style = "" if data["outcome"] == "ok" else "yellow"
            _line(console, "   ← ", data["observation"], style, data["seconds"])
        case "run.completed":
            _end(data, console)
        case _:
            pass


def _end(data: JsonObject, console: Console) -> None:
    console.print()
    if data["outcome"] == "answered":
        console.print(Text(plain(data["answer"]), "bold green"))
    elif data["outcome"] == "failed":
        console.print(Text(plain(f"Failed: {data['problem']['detail']}"), "bold red"))
    else:
        console.print(Text(_ENDINGS[data["outcome"]], "bold yellow"))
    console.print(Text(f"{data['outcome']} in {data['seconds']:.1f} s", "dim"))


def _has_terminal() -> bool:
    """Whether somebody is there who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _request(request: JsonObject) -> str:
    """The whole of what would be sent, on one line: whoever approves it must not miss a part."""
    headers = [f"{name}: {value}" for name, value in request["headers"].items() if name != "idempotency-key"]
    body = request["text_body"]
    if body is None and request["json_body"] is not None:
        body = json.dumps(request["json_body"], ensure_ascii=False)
    return " ".join(" ".join([request["method"], request["url"], *headers, body or ""]).split())


def _line(console: Console, lead: str, text: str, style: str, seconds: float, width: int = 200) -> None:
    flat = " ".join(plain(text).split())
    short = flat if len(flat) <= width else flat[: width - 1] + "…"
    console.print(Text.assemble(lead, (short, style), (f"  {seconds:.2f} s", "dim")))


def plain(text: str) -> str:
    """`text` without control characters, which could drive the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
