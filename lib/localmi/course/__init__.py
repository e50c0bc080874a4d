"""What teaching needs: headless runs, self-checks, figures, the environment check."""
