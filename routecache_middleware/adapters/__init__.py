"""Ways in: ASGI."""
