"""What alembic runs to migrate: on the connection, and in the transaction, of `Database.migrate`."""

from alembic import context

from gateway.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
