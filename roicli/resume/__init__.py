"""An output in the making: lock, journal, checkpoints, fingerprint, session."""
