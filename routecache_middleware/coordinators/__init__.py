"""Where entries, leases and the invalidation log live; ``table`` says which schemes there are."""
