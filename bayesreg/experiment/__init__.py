"""What a run is: its settings, the words of the command line for them, and the folder that it is written to."""
