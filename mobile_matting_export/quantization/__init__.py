"""int8 that keeps the matte: ranges from calibration, layers kept in float, and how they are chosen."""
