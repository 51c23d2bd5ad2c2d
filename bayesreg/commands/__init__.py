"""What the command line is made of: settings, runs, files and printed pages."""
