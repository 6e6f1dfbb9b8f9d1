"""Everything about tritonserver: finding and starting it, asking and administering it, and what its failures mean."""
