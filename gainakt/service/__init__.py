"""The tracing service: answers in over HTTP, mastery and predictions out, kept in a database."""
