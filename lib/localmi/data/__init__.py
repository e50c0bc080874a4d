"""What comes in: sources, reports, the synthetic study, the cache, batches."""
