"""Ways of choosing a strength, and what each choice costs."""
