"""The coordinator that all worker processes of one machine share: one LMDB file."""
