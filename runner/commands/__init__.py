"""What each command does: arguments -> text on a console and an exit code."""
