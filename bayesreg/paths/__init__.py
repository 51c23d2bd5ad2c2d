"""The penalised solution and the posterior along an axis of strengths."""
