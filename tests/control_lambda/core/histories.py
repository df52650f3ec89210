"""Hypothesis strategies of whole histories: one drawn seed makes a fleet, its demand and its faults."""

from hypothesis import strategies as st

from twin.bench.histories import History

seeds = st.integers(min_value=0, max_value=2**32 - 1)
histories = seeds.map(History)
