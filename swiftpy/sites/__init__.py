"""Sites: one small data file for each place where jobs run, and the code that turns it into a launch."""
