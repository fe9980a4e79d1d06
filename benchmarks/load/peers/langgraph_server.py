"""The job as a LangGraph graph with its SQLite checkpointer: `langgraph_server.py PORT BACKEND DATABASE`.

Runs in an environment of its own (servers.py) and imports nothing of this project. Nodes, edges and chat models as
LangGraph's documentation writes them; the prompts are as long as the gateway's trajectories.
"""

import json
import operator
import sys
import uuid
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

import httpx
import uvicorn
from fastapi import FastAPI
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

PORT, BACKEND, DATABASE = sys.argv[1:]
TOOL = 'weather: the current weather in a city. Arguments: {"city": string}.'
SYSTEM = {
    "planner": f"You plan. Say what is missing and whose turn is next: caller or conclusion.\nTools:\n{TOOL}",
    "caller": f"You write the tool call that the planner asks for, as JSON.\nTools:\n{TOOL}",
    "summarizer": "You write the answer for the user from the steps taken so far.",
}


class State(TypedDict):
    query: str
    steps: Annotated[list, operator.add]
    answer: str


class Query(BaseModel):
    query: str


models = {
    name: ChatOpenAI(model=name, base_url=f"{BACKEND}/v1", api_key="none", temperature=0, max_retries=0)
    for name in SYSTEM
}
tools = httpx.AsyncClient(base_url=BACKEND, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=1000))


async def ask(name: str, state: State) -> str:
    prompt = "\n".join([f"Query: {state['query']}", *state["steps"]])
    return (await models[name].ainvoke([SystemMessage(SYSTEM[name]), HumanMessage(prompt)])).content


async def planner(state: State) -> dict:
    return {"steps": [f"Thought: {await ask('planner', state)}"]}


async def caller(state: State) -> dict:
    return {"steps": [await ask("caller", state)]}


async def tool(state: State) -> dict:
    response = await tools.get("/weather", params=json.loads(state["steps"][-1])["arguments"])
    return {"steps": [f"Observation: {response.raise_for_status().text}"]}


async def summarizer(state: State) -> dict:
    return {"answer": await ask("summarizer", state)}


def whose_turn(state: State) -> str:
    return "caller" if "Next: caller" in state["steps"][-1] else "summarizer"


def graph() -> StateGraph:
    built = StateGraph(State)
    for node in (planner, caller, tool, summarizer):
        built.add_node(node.__name__, node)
    built.add_edge(START, "planner")
    built.add_conditional_edges(
        "planner",
        lambda state: "caller" if "Next: caller" in state["steps"][-1] else "summarizer",
        ["caller", "summarizer"],
    )
    built.add_edge("caller", "tool")
    built.add_edge("tool", "planner")
    built.add_edge("summarizer", END)
    return built


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with AsyncSqliteSaver.from_conn_string(DATABASE) as saver:
        app.state.graph = graph().compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/queries")
async def queries(body: Query) -> dict:
    thread = uuid.uuid4().hex
    done = await app.state.graph.ainvoke({"query": body.query, "steps": []}, {"configurable": {"thread_id": thread}})
    return {"run_id": thread, "answer": done["answer"], "steps": done["steps"]}


@app.get("/healthz")
async def alive() -> str:
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, port=int(PORT), log_level="warning", access_log=False, backlog=4096)
