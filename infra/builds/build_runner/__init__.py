"""Are the builds done? The functions through which CloudFormation starts them and waits."""
