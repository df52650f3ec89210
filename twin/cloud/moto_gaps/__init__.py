"""What moto leaves out or gets wrong, filled in: one file per service.

Each gap's docstring names the AWS behaviour that it restores. `gateway` stands in front of moto: it
answers the calls that a gap fills from the twin's `Nodes` and minute buckets, hands to moto what moto does
right, and refuses everything else, so that nothing is answered wrongly in silence.
"""
