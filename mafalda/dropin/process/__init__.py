"""What the drop-in loads before its worker is reported as running; only the standard library is imported."""
