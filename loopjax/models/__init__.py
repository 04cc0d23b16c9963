"""Networks and the products they are made of."""
