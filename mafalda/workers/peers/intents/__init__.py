"""What each intent of a peer does. ``handlers`` finds the function for an intent."""
