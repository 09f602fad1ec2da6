"""What the product costs in CPU, beside the least that could do the same work."""
