"""DataRobot's side: what the platform is told."""
