"""What runs in AWS Lambda: how is the fleet kept at its objective, minute by minute, at the least cost?"""
