"""SQL of limits: gates, rates, budgets, expiry."""
