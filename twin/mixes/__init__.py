"""The KAIROS laboratory: mixes of instance types under query distributors, one query at a time."""
