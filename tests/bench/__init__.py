"""Measurements against the budgets: `make bench`. Not tests: machines are noisy, so speeds are ratios to a reference
measured in the same run."""
