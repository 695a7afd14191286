"""The stories: one module for each application."""
