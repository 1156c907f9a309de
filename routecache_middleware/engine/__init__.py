"""The I/O shell: what waits is here, and decides nothing."""
