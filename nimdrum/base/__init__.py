"""What every room may know: settings, how DRUM hosts us, errors, log lines, secrets, files. Knows no other room."""
