"""What the cache costs and what it saves, measured: ``python -m tests.bench``."""
