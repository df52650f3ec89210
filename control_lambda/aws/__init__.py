"""How are the loop's ports made of AWS? boto3 behind them, one subject in each module."""
