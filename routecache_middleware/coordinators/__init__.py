"""Where entries, leases and the invalidation log live; :mod:`.table` says which schemes there are."""
