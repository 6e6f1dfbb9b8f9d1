"""From files as people have them to tables: found, unpacked, their form recognised, and never silently shortened."""
