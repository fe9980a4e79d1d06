"""Versions of toolsets: what a registration says moves there, and the toolset tells which of them is current.

Of those that are registered already the first version is what they are now. A digest is made here as it was made when
this was written, so that registering the same once more stays the same version.
"""

import hashlib
import json
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    versions = op.create_table(
        "toolset_versions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("url", sa.Text),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("operations", sa.Text),
        sa.Column("registered_at", sa.Float, nullable=False),
        sa.Column("replaced_at", sa.Float),
        sa.UniqueConstraint("tenant", "name", "digest", name="toolset_versions_differ"),
    )
    now = time.time()
    connection = op.get_bind()
    asked = sa.text("SELECT tenant, name, url, document, options FROM toolsets WHERE position = :position")
    for position in connection.execute(sa.text("SELECT position FROM toolsets")).scalars().all():
        row = connection.execute(asked, {"position": position}).mappings().one()  # one at a time: documents are large
        first = {**row, "version": 1, "digest": _digest(**row), "operations": None, "registered_at": now}
        connection.execute(versions.insert().values(**first, replaced_at=None))
    op.add_column("toolsets", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    for name in ("url", "document", "options"):
        op.drop_column("toolsets", name)


def _digest(url: str | None, document: str, options: str, **_: object) -> str:
    said = [url, json.loads(document), _without_defaults(json.loads(options))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Of that time: nothing, none of them, and the policy `allowed`."""
    left = {name: value for name, value in options.items() if value not in (None, [], {}, "allowed")}
    if (mcp := options.get("mcp")) is not None:
        left["mcp"] = {name: value for name, value in mcp.items() if value not in ([], {}, False)}
    return left
