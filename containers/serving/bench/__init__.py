"""How much does the server itself cost, and how does it hold up beside others and over hours?"""
