"""What the command line is made of: its options, commands, and printed pages."""
