"""Independent nodes behind one coordinator: ``ring://``."""
