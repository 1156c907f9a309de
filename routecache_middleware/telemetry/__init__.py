"""What observers tell the user's own tracing."""
