"""Wire APIs, one file each; :mod:`.table` says which there are."""
