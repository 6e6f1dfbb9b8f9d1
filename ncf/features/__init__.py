"""What is known of items and users beside their interactions, such as genres and age: read, told apart, encoded."""
