"""Prompt rendering: a Jinja template that travels with the checkpoint, applied to a trajectory.

A template sees `role`, `query`, `tools` and `steps`, and three filters: `signature` (a tool in one line), `plan_text`
and `call_text`. Whatever it interpolates is data: sequences that a tokenizer could read as control tokens (`<|…|>`,
`</s>`) are broken up, so no query, tool document or observation can forge the frame that the template itself writes.
"""

import hashlib
import json
import re
from functools import cached_property
from importlib.resources import files
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from umi.grammar import call_text, plan_text
from umi.roles import Role
from umi.trajectory import JsonObject, ToolSpec, Trajectory

DEFAULT_TEMPLATE = "umi-1"
WHOLE_STEP_TEMPLATE = "whole-step-1"
_CONTROL = re.compile(r"<(?=\||/?s>)")
_MAX_DOC = 100


def defuse(value: object) -> str:
    """The text of `value` with control-token look-alikes broken up by a space after their `<`."""
    return _CONTROL.sub("< ", str(value))


def signature(tool: ToolSpec) -> str:
    """A tool in one line: `name(param: type "meaning", optional?: "a"|"b"): what it does`."""
    required = set(tool.parameters.get("required", ()))
    parts = [
        f"{name}{'' if name in required else '?'}: {_type(schema)}{_meaning(schema)}"
        for name, schema in tool.parameters.get("properties", {}).items()
    ]
    return f"{tool.name}({', '.join(parts)}): {_short(tool.description)}"


def _type(schema: JsonObject | bool) -> str:
    if isinstance(schema, bool):
        return "any"
    if "enum" in schema:
        return "|".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"][:12])
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return "|".join(dict.fromkeys(_type(option) for option in options))
    match schema.get("type"):
        case "array":
            return f"{_type(schema.get('items', {}))}[]"
        case "object" if fields := schema.get("properties"):
            return "{" + ", ".join(f"{name}: {_type(field)}" for name, field in fields.items()) + "}"
        case str(name):
            return name
        case list(names):
            return "|".join(map(str, names))
        case _:
            return "any"


def _meaning(schema: JsonObject | bool) -> str:
    if isinstance(schema, bool) or "enum" in schema:  # its values say enough
        return ""
    text = _short(schema.get("description", ""))
    return f' "{text}"' if text else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_DOC else line[: _MAX_DOC - 1].rsplit(" ", 1)[0] + "…"


class PromptTemplate:
    """A prompt template by its source text. Raises jinja2.TemplateError, here or at rendering, if it is broken."""

    def __init__(self, source: str) -> None:
        self.source = source
        environment = ImmutableSandboxedEnvironment(
            finalize=defuse, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        filters: dict[str, Any] = {"signature": signature, "plan_text": plan_text, "call_text": call_text}
        environment.filters.update(filters)
        self._template = environment.from_string(source)

    @classmethod
    def default(cls) -> "PromptTemplate":
        """The template that the shipped checkpoints were trained with."""
        return cls.named(DEFAULT_TEMPLATE)

    @classmethod
    def named(cls, name: str) -> "PromptTemplate":
        """One of the templates that come with UMi."""
        return cls(files("umi").joinpath("templates", f"{name}.jinja").read_text("utf-8"))

    @cached_property
    def sha256(self) -> str:
        """Identifies the template in a manifest."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def render(self, role: Role, trajectory: Trajectory) -> str:
        """The prompt at which `role` goes on writing."""
        return self._template.render(
            role=role.value, query=trajectory.query, tools=trajectory.tools, steps=trajectory.steps
        )
