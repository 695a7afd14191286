"""Networks in plain torch; they know no schedule."""
