"""The declared file: its fields, and errors that name the line and the nearest key."""
