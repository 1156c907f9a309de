"""The command line: ``routecache ...``."""
