"""What decides: pure functions and frozen records, no clock, no loop, no I/O."""
