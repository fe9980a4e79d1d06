"""The tables as they are now. A change here needs a migration; a test compares the two."""

import sqlalchemy as sa

metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("key_id", sa.String(16), nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(16)),
    sa.Column("owner", sa.String(64)),
    sa.Column("until", sa.Float),
    sa.Column("cancel_asked", sa.Boolean, nullable=False),
)
"""`owner` and `until` are the lease: whose the run is while it goes on, and until when nobody else may take it.
`cancel_asked` tells the owner that somebody asked another gateway to cancel it. A run that waits for approval is
nobody's; at `until` the wait is over."""
_unfinished = runs.c.outcome.is_(None)
waits = sa.and_(_unfinished, runs.c.owner.is_(None), runs.c.until.is_not(None))
sa.Index("runs_listed", runs.c.tenant, runs.c.created_at, runs.c.id)
sa.Index("runs_unfinished", runs.c.key_id, runs.c.until, sqlite_where=_unfinished, postgresql_where=_unfinished)

events = sa.Table(
    "events",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
)
"""Idempotency keys, and the run that was begun for each."""

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("problem", sa.Text),
)
"""Webhooks of runs. `due_at` is when the next attempt begins; while one goes on, when another gateway may take over.
`at` is the time of the last change; `status` and `problem` tell of the last attempt."""
_due = deliveries.c.due_at.is_not(None)
sa.Index("deliveries_due", deliveries.c.due_at, sqlite_where=_due, postgresql_where=_due)

webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("rotated_at", sa.Float, nullable=False),
)
"""Which of the secrets that are derived for a tenant signs its webhooks; the secrets themselves are nowhere."""

toolsets = sa.Table(
    "toolsets",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("revision", sa.String(32), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.UniqueConstraint("tenant", "name", name="toolsets_named"),
)
"""What is registered now, and as which version. `revision` changes with every change, so that another gateway sees what
it has to read again."""

toolset_versions = sa.Table(
    "toolset_versions",
    metadata,
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
"""What registrations have said, each once; what it says is never changed. `operations` counts them by what became of
them. `replaced_at` is when the version was current for the last time; None while it is."""

keys = sa.Table(
    "keys",
    metadata,
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
"""API keys: of the key itself only a SHA-256 is here."""

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("key_id", sa.String(16), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("tokens", sa.BigInteger, nullable=False),
)
"""Tokens that a key's runs have read and written on a day (UTC)."""

OF_A_RUN = (
    (events, events.c.run_id),
    (claims, claims.c.run_id),
    (deliveries, deliveries.c.run_id),
    (runs, runs.c.id),
)
"""Where something of a run is kept, and by which column; to be deleted in this order."""
