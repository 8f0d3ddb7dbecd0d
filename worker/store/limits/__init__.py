"""SQL of limits: gates, rates, budgets with expiry."""
