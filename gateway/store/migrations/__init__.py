"""Alembic's migrations. They travel with the package and are applied when a gateway starts."""
