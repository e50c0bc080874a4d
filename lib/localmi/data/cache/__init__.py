"""The prepared study: images decoded once, reports split once."""
