"""An event of GitHub -> runs started, cancelled or told of, and everything said about them there."""
