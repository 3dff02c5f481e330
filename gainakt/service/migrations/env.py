"""What alembic runs; the connection is open and in a transaction that the caller ends."""

from alembic import context

from gainakt.service.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
