"""What each step of a build does: functions that write files into the folder they are given."""
