"""How much does a mix of instance types carry? The KAIROS laboratory, query by query."""
