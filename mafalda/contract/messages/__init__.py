"""The messages: one module for each kind, and the envelope that holds them."""
