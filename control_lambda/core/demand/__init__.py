"""How much demand will come, and how much of it is worth carrying?"""
