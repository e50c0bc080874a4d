"""The guard of credentialed data: what must never be stored, and where it is looked for."""
