"""SQL of operators: users, interventions, replies they write."""
