"""What does the command line understand, and which of the rooms does each command ask?"""
