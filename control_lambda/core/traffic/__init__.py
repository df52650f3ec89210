"""Which unit gets which share of traffic, and how fast may shares move?"""
