"""What came out: statistics with intervals, grounding against the truth."""
