"""Pictures and faces: missing regions filled."""
