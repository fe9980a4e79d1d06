"""What is said of a toolset beside its document: base URL, what is allowed, references of secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("toolsets", sa.Column("options", sa.Text, nullable=False, server_default="{}"))
