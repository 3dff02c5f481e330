"""Students, their answers, and keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "students",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "answers",
        sa.Column("arrival", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("student_id", NUMBER, sa.ForeignKey("students.id"), nullable=False),
        sa.Column("event", sa.String(200), nullable=False),
        sa.Column("skills", sa.JSON(), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=False),
        sa.Column("question", sa.String(200), nullable=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("student_id", "event", name="one_answer_an_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("history", "answers", ["student_id", "time", "arrival"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Remove the tables."""
    for name in ("keys", "answers", "students"):
        op.drop_table(name)
