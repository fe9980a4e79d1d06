"""Tenants and keys; the lease moves into the run, so that taking a run is one statement.

What was there before belongs to the tenant "default". A lease is not carried over: its gateway is stopped by now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("runs", sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
    op.add_column("runs", sa.Column("key_id", sa.String(16), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("owner", sa.String(64)))
    op.add_column("runs", sa.Column("until", sa.Float))
    op.add_column("runs", sa.Column("cancel_asked", sa.Boolean, nullable=False, server_default=sa.false()))
    unfinished = sa.text("outcome IS NULL")
    op.create_index("runs_listed", "runs", ["tenant", "created_at", "id"])
    op.create_index(
        "runs_unfinished", "runs", ["key_id", "until"], sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.drop_table("leases")
    _claims()
    _toolsets()
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("concurrent_runs", sa.Integer),
        sa.Column("tokens_per_day", sa.Integer),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_table(
        "usage",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )


def _claims() -> None:
    """Made anew: SQLite cannot change a primary key."""
    op.rename_table("claims", "claims_before")
    op.create_table(
        "claims",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name="claims_made"),
    )
    op.execute("INSERT INTO claims SELECT 'default', key, digest, run_id, at FROM claims_before")
    op.drop_table("claims_before")
    op.create_index("ix_claims_run_id", "claims", ["run_id"])


def _toolsets() -> None:
    """Made anew: a name is one tenant's."""
    op.rename_table("toolsets", "toolsets_before")
    op.create_table(
        "toolsets",
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("url", sa.Text),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("position", name="toolsets_in_order"),
        sa.UniqueConstraint("tenant", "name", name="toolsets_named"),
    )
    op.execute(
        "INSERT INTO toolsets (tenant, name, url, document, revision) "
        "SELECT 'default', name, url, document, 'migrated' FROM toolsets_before ORDER BY position"
    )
    op.drop_table("toolsets_before")
