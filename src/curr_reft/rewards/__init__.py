"""What is paid: format, accuracy, their weights, and the states that are not scores."""
