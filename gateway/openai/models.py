"""The models there are: one, the agent."""

from fastapi import APIRouter

from gateway.accounts import Reader
from gateway.openai.bodies import MODEL
from gateway.openai.errors import REPLIES
from gateway.problems import NotFound
from umi.trajectory import JsonObject

router = APIRouter(prefix="/v1/models", tags=["openai"])
_VIEW: JsonObject = {"id": MODEL, "object": "model", "created": 0, "owned_by": MODEL}


def check(model: str) -> None:
    """Raises NotFound when there is no such model."""
    if model != MODEL:
        raise NotFound(f"there is no model {model[:80]!r}; the agent is the model {MODEL!r}", "model")


@router.get("", responses={code: REPLIES[code] for code in (401, 403, 429)})
async def models(_: Reader) -> JsonObject:
    """The models, as OpenAI lists them. Which weights the roles serve is another matter: a run's steps name them."""
    return {"object": "list", "data": [_VIEW]}


@router.get("/{model}", responses={code: REPLIES[code] for code in (401, 403, 404, 429)})
async def model(model: str, _: Reader) -> JsonObject:
    """One model."""
    check(model)
    return _VIEW
