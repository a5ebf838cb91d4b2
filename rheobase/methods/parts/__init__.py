"""What methods are made of: scaled, tuned and calibrated, each from the one before; adapted for MSAT's threshold."""
